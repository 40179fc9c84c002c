"""Chat templates of published models: a conversation becomes the text that the model was trained to answer.

A template is a small program in the language Jinja2, and it comes from a stranger. So it runs in Jinja2's sandbox, with
the few functions that published templates call, and it sees the messages and the names of the special tokens only.

Left out: tools and documents. Reference: the transformers library, whose texts are the same.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["ChatTemplate"]

ANOTHER = "take another model"
ROLES = ("system", "user", "assistant")

Message = Mapping[str, str]  # {"role": one of ROLES, "content": a text}
QUESTION: Message = {"role": "user", "content": "Why is the sea salty?"}  # must stand in what a template writes of it


def require_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return a conversation as new dictionaries of role and content; refuse what is none.

    Args:
        messages: at least one, each with a role of `ROLES` and a content that is a string.

    Raises:
        ValueError: there is no message, or one is something else.

    Source: this course.
    """
    for message in messages:
        fits = isinstance(message, Mapping) and message.keys() == {"role", "content"}
        if not fits or message["role"] not in ROLES or not isinstance(message["content"], str):
            raise ValueError(
                f"found the message {message!r}; expected a dictionary of a 'role' ({', '.join(ROLES)}) and a "
                "'content', which is a string"
            )
    if not messages:
        raise ValueError("found no message; expected at least one to answer")
    return [dict(message) for message in messages]


class ChatTemplate:
    """A template that is ready to be filled, and has been tried with one question.

    Args:
        source: text of the template.
        names: what the template may call the special tokens: {"bos_token": "<s>", …}.

    Raises:
        ValueError: it is no template, or one that takes no question or leaves out what is asked.

    Source: the templates of the transformers library.
    """

    def __init__(self, source: str, names: Mapping[str, str]):
        if not isinstance(source, str):
            raise ValueError(f"found a chat template of the type {type(source).__name__}, not a text; {ANOTHER}")
        self._names = dict(names)
        try:
            self._template = _room().from_string(source)
        except Exception as error:  # what a stranger wrote may fail in any way
            raise ValueError(f"found a chat template that Jinja2 cannot read ({_line(error)}); {ANOTHER}") from error
        if QUESTION["content"] not in self.render([QUESTION]):
            raise ValueError(f"found a chat template that leaves out what the user asks; {ANOTHER}")

    def render(self, messages: Sequence[Message]) -> str:
        """Write the text of a conversation up to where the assistant's next answer begins.

        Args:
            messages: see `require_messages`.

        Raises:
            ValueError: what the template says of a conversation that it does not take, or a field that it misses.
        """
        asked = {"messages": require_messages(messages), "add_generation_prompt": True}
        try:
            return self._template.render(asked, tools=None, documents=None, **self._names)
        except Exception as error:  # it is a program of a stranger, which may fail in any way
            raise ValueError(
                f"the model's chat template does not take this conversation ({_line(error)}); change the order or the "
                "roles of the messages, or take another model"
            ) from error


def _room() -> "ImmutableSandboxedEnvironment":
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    room = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    room.filters["tojson"] = _tojson
    room.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    return room


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja2's own filter of this name writes < and > as codes, for web pages."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
