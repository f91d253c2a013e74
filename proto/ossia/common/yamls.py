"""A YAML file that an operator wrote: read, or refused in one line that says where. Quotes nothing, which may be secret."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml

from ossia.common.errors import UserError

T = TypeVar("T")


def read(file: Path, flag: str, parse: Callable[[str], T] = yaml.safe_load) -> T:
    """What is in the file that the command line's `flag` names. Raises UserError."""
    try:
        return parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); give {flag} an existing YAML file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not text in UTF-8; give {flag} a YAML file") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{file} line {line}: not YAML ({error.problem}); mend that line") from error
    except (yaml.YAMLError, ValueError) as error:  # also what looks like a date or a number, and is none
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: not YAML ({reason}); mend it or give {flag} another file") from error
