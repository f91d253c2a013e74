"""One turn of a response, as the engine is asked for it: a response is as many turns as its tools need. Knows no tokens."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

from ossia.common.vocabulary import SIZE
from ossia.v1 import engine_pb2
from router.gateway.choice import derived
from router.gateway.responses.offer import Offer, Offered
from router.gateway.responses.schema import ResponseBody


@dataclass(frozen=True)
class Step:
    """Turn `index` of the response. `tokens_left` of None: as many as fit; `calls_left`: of tools that the gateway calls."""

    body: ResponseBody
    offer: Offer
    index: int
    seed: int
    tokens_left: int | None
    calls_left: int

    prompt_param: ClassVar[str] = ResponseBody.prompt_param
    choices: ClassVar[int] = 1

    @property
    def stop(self) -> Sequence[str] | None:
        return self.body.stop

    @property
    def stop_token_ids(self) -> Sequence[int] | None:
        return self.body.stop_token_ids

    @property
    def tool_names(self) -> Set[str]:
        return {tool.name for tool in self.offer.tools}

    @property
    def parallel_tool_calls(self) -> bool | None:
        return self.body.parallel_tool_calls

    @property
    def callable(self) -> list[Offered]:
        """Those that may be called now: the tool that `tool_choice` names is called in the first turn."""
        tools = self.offer.callable if self.index else self.offer.first
        return [tool for tool in tools if self.calls_left > 0 or not tool.ours]

    @property
    def needs_grammar(self) -> str | None:
        return self.body.needs_grammar or next(self.offer.needing_grammar(), None)

    @property
    def names(self) -> Mapping[str, str]:
        places = {
            f"grammar.functions[{index}].{theirs}": f"tools[{tool.place}].{ours}"
            for index, tool in enumerate(self.callable)
            for theirs, ours in (("parameters", "parameters"), ("recipient", "name"))
        }
        return {**self.body.names, "grammar": self.needs_grammar or "", **places}

    def submit(self, prompt: Sequence[int], card: engine_pb2.DescribeResponse) -> engine_pb2.Submit:
        submit = self.body.submit(prompt, card)
        submit.sampling.seed = derived(self.seed, self.index)
        if self.tokens_left is not None:
            submit.sampling.max_tokens = self.tokens_left
        if card.vocab_size == SIZE and not self.body.ignore_eos:
            submit.grammar.harmony = True
            must_call = self.offer.must_call and not self.index
            self.offer.hold(submit.grammar, self.callable, must_call, card.reads_declarations)
        return submit
