"""Nothing that is read can run code: what is not in the sources cannot be reached by a file."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("g_rmi", "data_pipeline", "experiments")
SOURCES = [path for name in PACKAGES for path in ROOT.glob(f"{name}/**/*.py")]
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {"torch.load", "os.system", "os.popen", "cv2.FileStorage", "runpy.run_path"}
CALLS |= {"yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"}
CALLS |= {"importlib.util.spec_from_file_location", "spec_from_file_location"}
# `--config FILE.py` is code that the user asks to run by typing its path; nothing that is read
# leads there.
ASKED_FOR = {
    "experiments/configs/__init__.py": {"importlib.util.spec_from_file_location"},
    "data_pipeline/readers/yolo.py": {"import yaml"},  # safe_load makes nothing but plain values
}


def findings(path):
    """What a file does that a hostile input could turn into running code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from (f"import {name}" for name in names if name.split(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name == "torch.load" and keywords.get("weights_only") == "True":
                continue  # makes nothing but tensors
            if name in BUILTINS | CALLS or keywords.get("shell", "False") != "False":
                yield f"line {node.lineno}: {name}"
            if keywords.get("allow_pickle", "False") != "False":
                yield f"line {node.lineno}: {name} with pickles"


def test_the_sources_open_no_pickle_and_evaluate_no_text():
    assert len(SOURCES) > 50
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        found = {text.rpartition(": ")[2] for text in findings(path)}
        assert found == ASKED_FOR.get(name, set()), name


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "importlib.util.spec_from_file_location(name, path)",
    ],
)
def test_such_code_would_be_found(tmp_path, text):
    (tmp_path / "a.py").write_text(text)
    assert list(findings(tmp_path / "a.py"))


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_dependency_has_a_lower_and_an_upper_bound(name):
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    for line in lines:
        assert not line or line.startswith("-r ") or re.search(r">=[\d.]+,<[\d.]+$", line), line
