"""The conventions of the kernels in `g_rmi.ops`: what a caller may rely on without looking."""

import importlib
import inspect
import pkgutil

import pytest

import g_rmi.ops


def public_kernels():
    for module in pkgutil.iter_modules(g_rmi.ops.__path__):
        module = importlib.import_module(f"g_rmi.ops.{module.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("_") and function.__module__ == module.__name__:
                yield pytest.param(function, id=f"{module.__name__.split('.')[-1]}.{name}")


KERNELS = list(public_kernels())


@pytest.mark.parametrize("kernel", KERNELS)
def test_arrays_go_by_position_and_options_by_keyword(kernel):
    for name, parameter in inspect.signature(kernel).parameters.items():
        if parameter.kind == parameter.POSITIONAL_OR_KEYWORD:
            assert parameter.default is parameter.empty, f"{name}: an option by position"
        else:
            assert parameter.kind == parameter.KEYWORD_ONLY, f"{name}: {parameter.kind}"


@pytest.mark.parametrize("kernel", KERNELS)
def test_everything_is_annotated(kernel):
    signature = inspect.signature(kernel)
    assert signature.return_annotation is not signature.empty
    for name, parameter in signature.parameters.items():
        assert parameter.annotation is not parameter.empty, name


@pytest.mark.parametrize("kernel", KERNELS)
def test_everything_is_documented(kernel):
    doc = inspect.getdoc(kernel)
    assert doc.splitlines()[0].endswith(".")
    sections = doc.split("\nArgs:\n")
    assert len(sections) == 2, "no Args section"
    assert "\nReturns:\n" in sections[1], "no Returns section"
    for name in inspect.signature(kernel).parameters:
        assert f"\n  {name}: " in "\n" + sections[1], f"{name} is not under Args"


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_are_plain_functions_on_the_public_list(kernel):
    assert not hasattr(kernel, "lower"), "carries its own jit"
    listed = {word for line in g_rmi.ops.__doc__.splitlines() for word in line.split()}
    assert kernel.__name__ in listed, "add it to the list in g_rmi/ops/__init__.py"


def test_there_are_kernels():
    assert len(KERNELS) >= 9
