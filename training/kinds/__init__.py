"""Everything ossia-tiny is taught, by kind."""

from training.kinds import arithmetic, counting, instructions, json_request, lists, memory, talk, tools
from training.task import Make

KINDS: dict[str, Make] = (
    arithmetic.KINDS
    | counting.KINDS
    | lists.KINDS
    | talk.KINDS
    | memory.KINDS
    | instructions.KINDS
    | json_request.KINDS
    | tools.KINDS
)
