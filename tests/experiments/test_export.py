"""The exported program, run without this project, finds what the pipeline finds."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from experiments import export
from g_rmi.detector.faster_rcnn.task import FasterRCNN
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.onnx import to_onnx
from g_rmi.pose.task import PoseTask
from tests.networks import DETECTOR, POSE, TELLING, draw, save, scene

TABLES = ("keypoints", "keypoint_scores", "scores", "boxes", "visibility")

# Nothing of the project can be imported here, nor can flax.
ELSEWHERE = """
import sys

sys.modules.update(dict.fromkeys(("flax", "g_rmi", "experiments", "data_pipeline")))
sys.path.insert(0, sys.argv[1])
import numpy as np
import find_people as exported

pictures = list(np.load(sys.argv[2]).values())
together = [p for pair in (pictures[:2], pictures[2:]) for p in exported.find_people(pair)]
alone = exported.find_people(pictures[0])
assert exported.RUN._cache_size() == 1
tables = {f"{i} {name}": x for i, people in enumerate(together) for name, x in people.items()}
np.savez(sys.argv[3], **tables, **alone)
"""


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """Work directories of both stages."""
    runs = tmp_path_factory.mktemp("runs")
    return (
        save(runs / "detector", DETECTOR, FasterRCNN(DETECTOR.model)),
        save(runs / "pose", TELLING, PoseTask(TELLING.model)),
    )


@pytest.fixture(scope="module")
def exported(workdirs, tmp_path_factory):
    """The directory of an export of two pictures a call."""
    out = tmp_path_factory.mktemp("exported") / "people"
    detector, pose = map(str, workdirs)
    common = [
        "--max-people",
        "3",
        "--chunk",
        "3",
        "--min-box-score",
        "0",
        "--min-score",
        "0",
        "--pictures",
        "2",
    ]
    words = ["--detector", detector, "--pose", pose, "--out", str(out), "--size", "92", "100"]
    export.main([*words, *common])
    return out


@pytest.fixture
def loader(exported):
    """The loader as a module."""
    spec = importlib.util.spec_from_file_location("exported_loader", exported / "find_people.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_finds_the_same_people_without_the_project(exported, workdirs, tmp_path):
    """Lying and standing pictures, alone and mixed, all smaller than the buffer."""
    pictures = [scene(60, 79), scene(90, 61, 1), scene(88, 100, 2), scene(64, 80, 3)]
    np.savez(tmp_path / "pictures.npz", *pictures)
    arguments = [str(exported), str(tmp_path / "pictures.npz"), str(tmp_path / "people.npz")]
    subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, *arguments],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    found = np.load(tmp_path / "people.npz")
    settings = Settings(min_box_score=0.0, min_score=0.0, max_people=3, crops_at_once=3)
    expected = PosePipeline.load(*workdirs, settings=settings)(pictures)
    assert max(len(people.scores) for people in expected) >= 2
    for i, people in enumerate(expected):
        for name in TABLES:
            ours = found[f"{i} {name}"]
            np.testing.assert_allclose(ours, getattr(people, name), atol=1e-3, rtol=1e-4)
    for name in TABLES:
        np.testing.assert_allclose(found[name], found[f"0 {name}"], atol=1e-3, rtol=1e-4)


def test_it_is_one_artefact_for_every_platform(exported):
    program = jax.export.deserialize(bytearray((exported / "program.bin").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    # What depends on the platform is inside, all of it, behind the platform's number.
    assert "_platform_index" in program.mlir_module()
    assert program.in_avals[0].shape == (2, 96 + 8, 104 + 8, 3)
    about = json.loads((exported / "about.json").read_text())
    assert about["keypoints"][5] == "left_shoulder"
    assert about["settings"]["max_people"] == 3


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((20, 20, 3), np.float32), "uint8 RGB.*float32"),
        (np.zeros((20, 20), np.uint8), "uint8 RGB"),
        (np.zeros((20, 0, 3), np.uint8), "uint8 RGB"),
        ([np.zeros((8, 8, 3), np.uint8)] * 3, "3 pictures.*at most 2"),
        (None, "uint8 RGB.*NoneType"),
        ("a.jpg", "uint8 RGB.*str: 'a.jpg'"),
        (Image.new("F", (8, 8)), "uint8 RGB"),
    ],
)
def test_the_loader_names_what_it_cannot_take(loader, image, message):
    with pytest.raises(ValueError, match=message):
        loader.find_people(image)


def test_the_loader_takes_pictures_of_pil(loader):
    image = scene(60, 80)
    for given in (Image.fromarray(image), Image.fromarray(image).convert("RGBA")):
        found, wanted = loader.find_people(given), loader.find_people(image)
        np.testing.assert_array_equal(found["keypoints"], wanted["keypoints"])


def test_the_loader_shrinks_large_pictures(loader):
    """Of at most 96 x 104 pixels; the people are in the picture's own all the same."""
    small = scene(60, 79)
    large = small.repeat(2, axis=0).repeat(2, axis=1)[:-1]  # the row that lacks is the one before
    found, wanted = loader.find_people(large), loader.find_people(small)
    assert len(wanted["scores"])
    # Pixel i of the small picture is the mean of pixels 2 i and 2 i + 1.
    np.testing.assert_array_equal(found["keypoints"], 2 * wanted["keypoints"] + 0.5)
    np.testing.assert_array_equal(found["boxes"], 2 * wanted["boxes"])
    np.testing.assert_array_equal(found["scores"], wanted["scores"])


@pytest.mark.parametrize("name", ["program.bin", "weights.npz"])
def test_a_cut_file_of_an_export_is_named(exported, tmp_path, name):
    copy = shutil.copytree(exported, tmp_path / "copy")
    data = (copy / name).read_bytes()
    for share in (0, 0.01, 0.5, 0.99, None):
        (copy / name).unlink(missing_ok=True)
        if share is not None:
            (copy / name).write_bytes(data[: int(share * len(data))])
        spec = importlib.util.spec_from_file_location("cut_loader", copy / "find_people.py")
        with pytest.raises(ValueError, match=rf"{name} is missing, cut or damaged"):
            spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--size": ("0", "640")}, "--size 0 640"),
        ({"--pictures": ("0",)}, "--pictures 0"),
        ({"--detector": ("POSE",)}, "is a pose network; a detector is needed"),
        ({"--pose": ("DETECTOR",)}, "is a detector; a pose network is needed"),
        ({"--pose": ("nowhere",)}, "nowhere does not exist"),
        ({"--size": ("60000", "60000")}, "too many"),
    ],
)
def test_wrong_arguments_are_named(workdirs, tmp_path, capsys, change, message):
    detector, pose = map(str, workdirs)
    words = {"--detector": (detector,), "--pose": (pose,), "--out": (str(tmp_path / "out"),)}
    given = {"DETECTOR": detector, "POSE": pose}
    argv = [
        word
        for option, values in {**words, **change}.items()
        for word in (option, *(given.get(value, value) for value in values))
    ]
    with pytest.raises((ValueError, SystemExit)) as caught:
        export.main(argv)
    assert message in f"{caught.value} {capsys.readouterr().err}"
    assert not (tmp_path / "out").exists()


def test_files_of_others_are_left_alone(exported, tmp_path):
    export.check_out(exported)
    export.check_out(tmp_path / "new")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files, such as notes\.txt"):
        export.main(["--pose", "x", "--detector", "x", "--out", str(tmp_path)])
    with pytest.raises(ValueError, match="is a file"):
        export.check_out(tmp_path / "notes.txt")


def test_onnx_says_what_to_install(workdirs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    out = tmp_path / "pose.onnx"
    with pytest.raises(ValueError, match="pip install jax2onnx"):
        export.main(["onnx", "--pose-only", "--pose", str(workdirs[1]), "--out", str(out)])
    monkeypatch.setitem(sys.modules, "onnx", None)
    words = ["--detector", str(workdirs[0]), "--pose", str(workdirs[1])]
    with pytest.raises(ValueError, match="pip install onnx onnxruntime"):
        export.main(["onnx", *words, "--out", str(out)])
    assert not out.exists()
    with pytest.raises(ValueError, match=r"pose: must end in \.onnx"):
        export.main(["onnx", "--out", str(tmp_path / "pose")])


# Neither the project nor jax can be imported here.
WITHOUT_JAX = """
import sys

gone = ("jax", "jaxlib", "flax", "g_rmi", "experiments", "data_pipeline", "onnx")
sys.modules.update(dict.fromkeys(gone))
sys.path.insert(0, sys.argv[1])
import numpy as np
import tiny

people = tiny.find_people(sys.argv[2])
assert tiny.KEYPOINTS[5] == "left_shoulder"
for wrong in (np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), None):
    try:
        tiny.find_people(wrong)
        raise SystemExit("nothing was said")
    except ValueError as error:
        assert "uint8 RGB" in str(error)
np.savez(sys.argv[3], **people)
"""


def test_one_onnx_file_finds_people_without_jax(workdirs, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    # Where nothing stands out rounding decides who is found: untrained networks would be refused.
    monkeypatch.setattr("g_rmi.inference.onnx.people.agreement", lambda *_: "untrained")
    out = tmp_path / "new" / "tiny.onnx"
    words = ["--detector", str(workdirs[0]), "--pose", str(workdirs[1]), "--out", str(out)]
    options = ["--max-people", "3", "--min-box-score", "0", "--min-score", "0"]
    export.main(["onnx", *words, *options])
    assert "untrained" in capsys.readouterr().out
    assert {file.name for file in out.parent.iterdir()} == {"tiny.onnx", "tiny.py"}
    image = scene(90, 61)
    Image.fromarray(image).save(tmp_path / "a.png")
    arguments = [str(out.parent), str(tmp_path / "a.png"), str(tmp_path / "people.npz")]
    command = [sys.executable, "-I", "-c", WITHOUT_JAX, *arguments]
    subprocess.run(command, check=True, cwd=tmp_path)
    found = np.load(tmp_path / "people.npz")
    session = runtime.InferenceSession(out, providers=["CPUExecutionProvider"])
    *columns, valid = session.run(None, {"picture": image})
    for name, column in zip(TABLES, columns):
        np.testing.assert_array_equal(found[name], column[valid])
    subprocess.run([sys.executable, out.with_suffix(".py"), tmp_path / "a.png"], check=True)
    assert cv2.imread(str(tmp_path / "a.png.people.jpg")).shape == (90, 61, 3)
    # In eight bits it is smaller, and has the same loader.
    small = tmp_path / "small.onnx"
    export.main(["onnx", *words[:4], "--out", str(small), *options, "--int8", str(tmp_path)])
    assert small.stat().st_size < 0.6 * out.stat().st_size
    subprocess.run([sys.executable, small.with_suffix(".py"), tmp_path / "a.png"], check=True)
    with pytest.raises(ValueError, match="--int8 nowhere: no such folder"):
        export.main(["onnx", "--out", str(small), "--int8", "nowhere"])


def test_what_the_program_was_called_before(tmp_path, capsys):
    out = str(tmp_path / "out")
    with pytest.raises(ValueError, match="export onnx --out"):
        export.main(["--out", out, "--onnx"])
    with pytest.raises(ValueError, match="nowhere does not exist"):
        export.main(["--out", out, "--pose", "nowhere"])
    assert "`export` is called `export program` now" in capsys.readouterr().err


def test_a_wrong_net_is_refused(workdirs, tmp_path, monkeypatch):
    """Stand-ins, as the converter is not installed everywhere; its net is off by a little."""
    kept = {}

    def convert(network, shapes, **options):
        kept["network"] = jax.jit(network)
        graph = types.SimpleNamespace(output=[])
        return types.SimpleNamespace(graph=graph, SerializeToString=lambda: b"a network")

    def run(names, inputs):
        maps = [np.array(x) for x in kept["network"](inputs["crops"])]
        maps[1][1, 2, 3, 4, 1] += kept["error"] * np.abs(maps[1]).max()
        return maps

    session = types.SimpleNamespace(run=run)
    runtime = types.SimpleNamespace(InferenceSession=lambda *_, **__: session)
    monkeypatch.setitem(sys.modules, "jax2onnx", types.SimpleNamespace(to_onnx=convert))
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    out = tmp_path / "new" / "pose.onnx"
    words = ["onnx", "--pose-only", "--pose", str(workdirs[1]), "--out", str(out)]
    kept["error"] = 0.01
    with pytest.raises(ValueError, match="ONNX's offset differs"):
        export.main(words)
    assert not out.exists()
    kept["error"] = 0.0
    export.main(words)
    assert out.read_bytes() == b"a network"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "config",
    [
        PoseConfig(
            backbone=ResNetConfig(depth=50, width=8),
            crop_height=41,
            crop_width=33,
            dtype="bfloat16",
        ),
        PoseConfig(
            backbone=ResNetConfig(depth=26, width=8),
            crop_height=33,
            crop_width=33,
            norm="group",
            remat=True,
        ),
        POSE.model,
    ],
)
def test_onnxruntime_gives_the_same_maps(config):
    """Dilated and bfloat16; groups; a feature pyramid. Other crops than those of the check."""
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    variables = draw(PoseTask(config))
    data, worst = to_onnx(PoseTask(config), variables)
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    plain = PoseConfig(**{**config.__dict__, "dtype": "float32", "remat": False})
    run = jax.jit(PoseTask(plain).predict)
    assert [x.name for x in session.get_inputs()] == ["crops"]
    for count in (1, 3):
        crops = scene(config.crop_height * count, config.crop_width).astype(np.float32)
        crops = crops.reshape(count, config.crop_height, config.crop_width, 3)
        maps = run(variables, crops)
        for name, theirs in zip(("heatmap", "offset"), session.run(None, {"crops": crops})):
            ours = np.asarray(maps[name])
            np.testing.assert_allclose(theirs, ours, atol=1e-4 * np.abs(ours).max())
    assert worst < 1e-3
