"""Programs kept from one process to the next: what finds them, and what does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from g_rmi.inference import traced
from g_rmi.inference.settings import Settings
from g_rmi.inference.traced import Traced

X = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": None}
# Double and sum, by hand.
EXPECTED = ([[0, 2, 4], [6, 8, 10]], 15)


@dataclasses.dataclass(frozen=True)
class Foreign:
    """Settings that are not of the package, whose code nobody watches."""

    factor: int = 2


@pytest.fixture
def folder(tmp_path):
    """A cache of its own."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / "traced"
    jax.config.update("jax_compilation_cache_dir", before)


def kept(folder):
    """The files of programs."""
    return sorted(folder.iterdir()) if folder.exists() else []


def traces(*static, x=X):
    """How often a function is traced, as by another process; checks what it gives."""
    count = 0

    def function(given):
        nonlocal count
        count += 1
        return 2 * given["a"], jnp.sum(given["a"])

    run = Traced(function, *static)
    for _ in range(2):
        doubled, total = run(x)
        np.testing.assert_array_equal(doubled, 2 * x["a"])
        np.testing.assert_array_equal(total, x["a"].sum())
    if x is X:
        np.testing.assert_array_equal(doubled, EXPECTED[0])
        assert total == EXPECTED[1]
    return count


def test_the_next_process_traces_nothing(folder):
    assert traces(Settings(), (1, 2)) == 1
    assert traces(Settings(), (1, 2)) == 0
    assert len(kept(folder)) == 1


@pytest.mark.parametrize(
    ("static", "x"),
    [
        ((Settings(min_score=0.25), (1, 2)), X),
        ((Settings(), (2, 1)), X),
        ((Settings(), (1, 2)), {**X, "a": X["a"][:1]}),
        ((Settings(), (1, 2)), {**X, "a": X["a"].astype(np.int32)}),
        ((Settings(), (1, 2)), {"a": X["a"], "c": None}),
    ],
)
def test_what_differs_is_traced_anew(folder, static, x):
    assert traces(Settings(), (1, 2)) == 1
    assert traces(*static, x=x) == 1
    assert len(kept(folder)) == 2


def test_other_code_or_settings_of_jax_trace_anew(folder, monkeypatch):
    assert traces() == 1
    with monkeypatch.context() as patch:
        patch.setattr(traced, "_code", lambda: "another version")
        assert traces() == 1
    before = jax.config.values["jax_default_matmul_precision"]
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        assert traces() == 1
    finally:
        jax.config.update("jax_default_matmul_precision", before)
    assert traces() == 0
    assert len(kept(folder)) == 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-100],
        lambda content: b"",
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    ],
)
def test_a_broken_file_is_replaced(folder, spoil):
    assert traces() == 1
    (file,) = kept(folder)
    whole = file.read_bytes()
    file.write_bytes(spoil(whole))
    assert traces() == 1
    assert traces() == 0
    assert len(file.read_bytes()) == len(whole)


def test_nothing_is_kept_where_nothing_can_be(folder):
    folder.write_text("")  # a file where the directory would be
    assert traces() == 1
    assert traces() == 1
    jax.config.update("jax_compilation_cache_dir", None)
    assert traces() == 1
    folder.unlink()
    jax.config.update("jax_compilation_cache_dir", str(folder.parent))
    assert traces(Foreign()) == 1
    assert traces((Settings(), np.ones(3))) == 1
    assert kept(folder) == []


def test_what_jax_cannot_export_runs_all_the_same(folder):
    def function(x):
        return (jax.pure_callback(np.negative, jax.ShapeDtypeStruct((2,), jnp.float32), x),)

    (found,) = Traced(function)(np.ones(2, np.float32))
    np.testing.assert_array_equal(found, [-1, -1])
    assert kept(folder) == []


def test_a_mistake_in_the_function_is_its_own_error(folder):
    def function(x):
        raise ValueError("no such decoding")

    with pytest.raises(ValueError, match="no such decoding"):
        Traced(function)(np.ones(2, np.float32))
    assert kept(folder) == []


def test_the_last_programs_stay(folder, monkeypatch):
    monkeypatch.setattr(traced, "_KEPT", 2)
    for number in range(4):
        assert traces(number) == 1
    assert len(kept(folder)) == 2
    assert traces(3) == 0
