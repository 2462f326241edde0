"""Who may import whom. The arrows of the design, read off every import statement by `ast`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("g_rmi", "data_pipeline", "experiments")

# The project's own modules that each part may import, besides itself. Parts of g_rmi that are not
# named here lie on top, and no part below may import them. Nothing may import experiments.
LEAVES = ("g_rmi.types", "g_rmi.config", "g_rmi.files", "g_rmi.skeleton", "g_rmi.geometry")
STAGE = (*LEAVES, "g_rmi.metrics", "g_rmi.ops", "g_rmi.nn")
MAY_IMPORT = {
    **dict.fromkeys((*LEAVES, "g_rmi.metrics"), ()),
    "g_rmi.types": ("g_rmi.people",),
    # Only when they are called: `People` are handed on in many forms.
    "g_rmi.people": ("g_rmi.skeleton", "g_rmi.viz", "g_rmi.evaluation"),
    "g_rmi.ops": ("g_rmi.types",),
    "g_rmi.nn": ("g_rmi.ops",),
    "g_rmi.pretrained": ("g_rmi.nn",),
    "g_rmi.training": ("g_rmi.metrics", "g_rmi.config", "g_rmi.files", "g_rmi.types"),
    "g_rmi.pose": STAGE,
    "g_rmi.detector": STAGE,
    "g_rmi.parts": (*STAGE, "g_rmi.pose"),  # whose network and head it reads whole pictures with
    "g_rmi.inference": (
        *LEAVES,
        "g_rmi.people",
        "g_rmi.ops",
        "g_rmi.pose",
        "g_rmi.detector",
        "g_rmi.parts",
        "g_rmi.compile_cache",
        *(f"g_rmi.training.{name}" for name in ("checkpoint", "weights", "sharding", "hosts")),
    ),
    # Writes the networks out in another language.
    "g_rmi.inference.onnx": (*STAGE, "g_rmi.inference", "g_rmi.pose", "g_rmi.detector"),
    "g_rmi.evaluation": LEAVES,
    "g_rmi.viz": ("g_rmi.skeleton", "g_rmi.geometry"),
    "g_rmi": ("g_rmi.inference",),  # the doors, g_rmi.pipeline and g_rmi.find_people
    "data_pipeline": (
        "g_rmi.files",
        "g_rmi.skeleton",
        "g_rmi.geometry",
        "g_rmi.types",
        "g_rmi.config",
        "g_rmi.viz",
    ),
    "experiments": ("g_rmi", "data_pipeline"),
    # Programs import parts, never the other way.
    "experiments.parts": ("g_rmi", "data_pipeline", "experiments.configs"),
    "experiments.configs": ("g_rmi", "data_pipeline", "experiments.runs", "experiments.parts"),
}

# Other people's packages that a part must not import. Loader workers never see jax.
JAX = ("jax", "flax", "optax", "orbax")
MUST_NOT_IMPORT = {
    "g_rmi": ("tensorflow", "tensorflow_datasets", "grain", "array_record", "torch"),
    "data_pipeline": ("tensorflow", "torch", *JAX),
    "experiments": ("tensorflow",),
    "tests": ("tensorflow",),
    "g_rmi.config": JAX,
    "g_rmi.files": JAX,
    "g_rmi.types": JAX,
    "g_rmi.people": JAX,
    "g_rmi.skeleton": JAX,
    "g_rmi.geometry": JAX,
    "g_rmi.evaluation": JAX,
    "g_rmi.viz": JAX,
}


def within(module, part):
    return module == part or module.startswith(part + ".")


def imports(path, module):
    """Every `(line, imported name)` of a file, relative ones resolved."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = (
                    module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                )
                parent = package[: len(package) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            for alias in node.names:
                # `__version__` and its like belong to the package, not to a part of it.
                yield node.lineno, base if alias.name.startswith("__") else f"{base}.{alias.name}"


def forbidden(module, name):
    """Why `module` must not import `name`, or None."""
    banned = [
        (part, package)
        for part, packages in MUST_NOT_IMPORT.items()
        for package in packages
        if within(module, part) and within(name, package)
    ]
    if banned:
        part, package = banned[0]
        return f"{part} must not import {package}"
    if name.split(".")[0] not in PACKAGES or module.split(".")[0] not in PACKAGES:
        return None
    part = max((part for part in MAY_IMPORT if within(module, part)), key=len)
    allowed = MAY_IMPORT[part]
    if name == "g_rmi" or any(within(name, own) for own in (part, *allowed)):
        return None
    return f"{part} may import only {', '.join(dict.fromkeys((part, *allowed)))}"


def violations(root):
    found = []
    for package in (*PACKAGES, "tests"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            for line, name in imports(path, module):
                if reason := forbidden(module, name):
                    found.append(f"{path.relative_to(root)}:{line} imports {name}: {reason}")
    return found


def test_every_import_points_down():
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("file", "statement", "reason"),
    [
        ("g_rmi/ops/hough.py", "from g_rmi.nn import resnet", "g_rmi.ops may import only"),
        ("g_rmi/ops/hough.py", "from ..nn.resnet import ResNet", "imports g_rmi.nn.resnet.ResNet"),
        ("g_rmi/nn/heads.py", "import g_rmi.pose.network", "g_rmi.nn may import only"),
        ("g_rmi/pose/task.py", "from g_rmi import detector", "g_rmi.pose may import only"),
        ("g_rmi/detector/task.py", "from g_rmi.pose import decode", "g_rmi.detector may import"),
        ("g_rmi/training/loop.py", "from g_rmi.pose.task import X", "g_rmi.training may import"),
        ("g_rmi/training/loop.py", "from g_rmi import pipeline", "g_rmi.training may import"),
        ("g_rmi/pipeline.py", "from data_pipeline import coco", "g_rmi may import only g_rmi"),
        ("g_rmi/config.py", "from data_pipeline.config import X", "g_rmi.config may import only"),
        ("g_rmi/pipeline.py", "import experiments.train", "g_rmi may import only g_rmi"),
        ("g_rmi/evaluation/pck.py", "import jax", "g_rmi.evaluation must not import jax"),
        ("g_rmi/evaluation/pck.py", "from g_rmi.ops import oks", "g_rmi.evaluation may import"),
        ("g_rmi/inference/people.py", "from g_rmi.evaluation import coco", "g_rmi.inference may"),
        ("g_rmi/inference/load.py", "from g_rmi.training import loop", "g_rmi.inference may"),
        ("g_rmi/pose/__init__.py", "from .. import detector", "g_rmi.pose may import only"),
        ("g_rmi/training/loop.py", "import grain", "g_rmi must not import grain"),
        (
            "g_rmi/training/x.py",
            "def f():\n  import tensorflow_datasets",
            "must not import tensorf",
        ),
        ("g_rmi/geometry.py", "import jax.numpy as jnp", "g_rmi.geometry must not import jax"),
        ("data_pipeline/loader.py", "from jax import Array", "data_pipeline must not import jax"),
        ("data_pipeline/loader.py", "from g_rmi.ops import image", "data_pipeline may import only"),
        ("g_rmi/types.py", "from jax import Array", "g_rmi.types must not import jax"),
        ("data_pipeline/loader.py", "from experiments import cli", "data_pipeline may import only"),
        ("experiments/train.py", "import tensorflow as tf", "experiments must not import tensor"),
        ("experiments/parts/run.py", "from experiments import predict", "experiments.parts may"),
        ("tests/test_x.py", "import tensorflow", "tests must not import tensorflow"),
    ],
)
def test_a_planted_violation_is_found(file, statement, reason, tmp_path):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f'"""A file."""\n\n{statement}\n')
    (found,) = violations(tmp_path)
    assert found.startswith(f"{file}:")
    assert reason in found


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("g_rmi/pipeline.py", "from g_rmi.inference import pipeline"),
        ("g_rmi/inference/load.py", "from g_rmi import detector, pose"),
        ("g_rmi/pose/network.py", "from g_rmi.nn.resnet import ResNet\nfrom . import heads"),
        ("g_rmi/training/checkpoint.py", "from g_rmi import __version__, config"),
        ("data_pipeline/readers/coco.py", "from g_rmi.skeleton import COCO\nimport grain"),
        ("experiments/train.py", "from data_pipeline import loader\nfrom g_rmi.pose import task"),
        ("tests/test_x.py", "import experiments.train\nimport torch"),
    ],
)
def test_what_is_allowed(file, statement, tmp_path):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(statement)
    assert violations(tmp_path) == []


def test_loader_workers_evaluation_and_drawing_do_without_jax():
    parts = ("g_rmi/evaluation", "g_rmi/viz")
    files = sorted(path.relative_to(ROOT) for part in parts for path in (ROOT / part).glob("*.py"))
    modules = [".".join(path.with_suffix("").parts) for path in files]
    modules += ["g_rmi.skeleton", "g_rmi.geometry", "data_pipeline.pose_examples"]
    assert {"g_rmi.evaluation.truth", "g_rmi.viz.draw"} <= set(modules)
    code = (
        f"import sys, {', '.join(modules)}; "
        "print(*sorted({'jax', 'tensorflow'} & set(sys.modules)))"
    ).replace(".__init__", "")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
