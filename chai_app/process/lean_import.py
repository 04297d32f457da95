"""Imports that leave out what nobody has asked for yet.

The libraries that we stand on import others at their top: torch's compiler, torchvision with all its models, torchao,
timm. None of them takes part in making a video, and together they take longer than everything else that a command does
before it begins. `lean_import` imports a library without them; whoever needs one of them later gets it whole, be it
that library itself or anybody else.

Two ways. A package that stands `aside` is not imported; what is taken from it is a promise, which imports it once it is
used. Of a `bare` package only its own `__init__` is left out; modules within it are imported as they are. When it is
over both are forgotten, so that `sys.modules` tells the truth, and the next import of them is an ordinary one.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, SimpleNamespace, new_class
from typing import Any, TypeVar

from . import loading_turn

T = TypeVar("T")
_COMPILER = "torch._dynamo"


def lean_import(load: Callable[[], T], aside: Sequence[str] = (), bare: Sequence[str] = ()) -> T:
    """What `load` gives, a function that imports, called within `left_out`. If a library takes it amiss, for it may be
    of another version than this was made for, all is imported as usual."""
    try:
        with left_out(aside, bare):
            return load()
    except Exception:
        return load()


@contextmanager
def left_out(aside: Sequence[str] = (), bare: Sequence[str] = ()) -> Iterator[None]:
    """Within the block these packages are not imported, for any thread; those that are here already stay."""
    with loading_turn():
        finder = _Finder([n for n in aside if n not in sys.modules], [n for n in bare if n not in sys.modules])
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            finder.forget("")


class _Finder(MetaPathFinder, Loader):
    """Finds, in place of some packages, what stands for them."""

    def __init__(self, aside: list[str], bare: list[str]) -> None:
        self._aside, self._bare = aside, bare
        self._made: dict[str, ModuleType] = {}

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self._bare and not any(_is_within(name, package) for package in self._aside):
            return None
        spec = ModuleSpec(name, self, is_package=True)
        if name in (*self._aside, *self._bare):
            real = PathFinder.find_spec(name, path)
            if real is None:  # not installed, and whoever asks should know
                return None
            spec.origin, spec.submodule_search_locations = real.origin, real.submodule_search_locations
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if spec.name in self._bare:
            module = ModuleType(spec.name)
        else:
            module = (_Compiler if spec.name == _COMPILER else _Aside)(spec.name, self)
        self._made[spec.name] = module
        return module

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to do."""

    def give_up(self, name: str) -> None:
        """Let the package that `name` is in be imported after all."""
        for package in [each for each in self._aside if _is_within(name, each)]:
            self._aside.remove(package)
            self.forget(package)

    def forget(self, package: str) -> None:
        """Take what stands for `package`, and within it, out of its place; "" is all."""
        for name in [each for each in self._made if not package or _is_within(each, package)]:
            module = self._made.pop(name)
            if sys.modules.get(name) is module:
                del sys.modules[name]
            parent, _, own_name = name.rpartition(".")
            # The compiler stays where torch keeps it, because whoever looks for it there would import it.
            if parent in sys.modules and name != _COMPILER and vars(sys.modules[parent]).get(own_name) is module:
                delattr(sys.modules[parent], own_name)


def _is_within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def _is_here(name: str) -> bool:
    """Whether a module is imported, and not merely stood for."""
    return name in sys.modules and not isinstance(sys.modules[name], _Aside)


def _imported(name: str) -> ModuleType:
    """The module itself."""
    stands_there = sys.modules.get(name)
    if isinstance(stands_there, _Aside):
        stands_there._finder.give_up(name)
    return import_module(name)


class _Aside(ModuleType):
    """Stands for a module. What is taken from it while it is in the module's place are promises."""

    _finder: _Finder

    def __init__(self, name: str, finder: _Finder) -> None:
        super().__init__(name)
        vars(self)["_finder"] = finder

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            return _Promise(name, (), {"__module__": self.__name__})
        return getattr(import_module(self.__name__), name)


class _Promise(type):
    """A class or a function of a module that is not imported. To call it, or to inherit from it, imports it; nothing is
    an instance of it before somebody has done so."""

    def __new__(mcs, name: str, bases: tuple[Any, ...], namespace: dict[str, Any]) -> Any:
        if not bases:
            return super().__new__(mcs, name, bases, namespace)
        kept = tuple(base.kept() if isinstance(base, _Promise) else base for base in bases)
        return new_class(name, kept, exec_body=lambda body: body.update(namespace))

    def kept(cls) -> Any:
        """What was promised."""
        return getattr(_imported(cls.__module__), cls.__name__)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.kept()(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(cls.kept(), name)

    def __instancecheck__(cls, instance: object) -> bool:
        return _is_here(cls.__module__) and isinstance(instance, cls.kept())

    def __subclasscheck__(cls, other: type) -> bool:
        return _is_here(cls.__module__) and issubclass(other, cls.kept())


class _Compiler(_Aside):
    """Stands for torch's compiler, by which libraries mark functions, and which has compiled nothing yet."""

    @property
    def eval_frame(self) -> Any:
        """Where libraries look whether a module was compiled."""
        return import_module(_COMPILER).eval_frame if _is_here(_COMPILER) else SimpleNamespace(OptimizedModule=_Nothing)

    @staticmethod
    def allow_in_graph(marked: T) -> T:
        """A hint for speed; diffusers does without where there is no compiler."""
        return marked

    @staticmethod
    def assume_constant_result(marked: T) -> T:
        """Mark a function as the compiler does."""
        marked._dynamo_marked_constant = True  # type: ignore[attr-defined]
        return marked

    @staticmethod
    def disable(marked: Any = None, recursive: bool = True, **how: Any) -> Any:
        """Keep the compiler out of a function, once there is a compiler."""
        if marked is None:
            return functools.partial(_Compiler.disable, recursive=recursive, **how)

        @functools.wraps(marked)
        def left_alone(*args: Any, **kwargs: Any) -> Any:
            if not _is_here(_COMPILER):
                return marked(*args, **kwargs)
            return import_module(_COMPILER).disable(marked, recursive, **how)(*args, **kwargs)

        return left_alone


class _Nothing:
    """Nothing is an instance of it."""
