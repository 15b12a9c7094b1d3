"""A model's Python file as a module of its own, so that versions and models with files of the same names stay apart."""

from __future__ import annotations

import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Final

from services.common.telemetry import log
from services.serving.errors import BadPackage

LOADING: Final = threading.RLock()
"""One model's code at a time: what it imports is looked up through state that all of Python shares."""
NUMBERS: Final = count(1)


class ModelModule:
    """The code of one version. Modules that lie beside it are its own too; they are imported while it loads."""

    def __init__(self, model: str, path: Path, given: dict[str, ModuleType] | None = None) -> None:
        """Runs the file. `given`: modules that it may import, each model its own. Raises `BadPackage`."""
        self._model = model
        self._path = path
        self._given = given or {}
        self._name: Final = f"irisloop_model_{next(NUMBERS)}"
        module = ModuleType(self._name)
        module.__file__ = str(path)
        # dataclasses and pickle look for the module of a class here
        sys.modules[self._name] = module
        self._forget = weakref.finalize(self, sys.modules.pop, self._name, None)
        try:
            with self.importing():
                # compiled here: a cached .pyc would be written into the user's folder, and outlive a quick change
                exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
        except BaseException:
            self.close()
            raise
        self.module: Final = module

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Inside the block the folder's own modules can be imported. Whatever the code raises becomes `BadPackage`."""
        folder = str(self._path.parent)
        with LOADING:
            written = sys.dont_write_bytecode
            sys.modules.update(self._given)
            sys.path.insert(0, folder)
            sys.dont_write_bytecode = True
            try:
                yield
            except (Exception, SystemExit) as error:
                raise self._broken(error) from error
            finally:
                sys.dont_write_bytecode = written
                with suppress(ValueError):  # the code may have removed it
                    sys.path.remove(folder)
                _forget(folder)

    def close(self) -> None:
        """Forget the module; so does the end of this object."""
        self._forget()

    def _broken(self, error: BaseException) -> BadPackage:
        log.error("python_model_not_loaded", model=self._model, error=repr(error), exc_info=error)
        return BadPackage(f"{last_line(error)}{place_of(error, self._path)}", field=self._path.name)


def last_line(error: BaseException) -> str:
    """What Python says of an error at the end of its traceback, on one line."""
    said = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def place_of(error: BaseException, path: Path) -> str:
    """ " (model.py, line 7)": the deepest line of the model's folder."""
    if isinstance(error, SyntaxError):
        return ""  # says it by itself
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(str(path.parent))]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _forget(folder: str) -> None:
    """Modules of this folder, which another model may have under the same names."""
    inside = f"{folder.rstrip('/')}/"
    for name in list(sys.modules):  # names alone: making pairs may collect garbage, and that may import
        file = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(file, str) and file.startswith(inside) and not name.startswith("irisloop_model_"):
            sys.modules.pop(name, None)
