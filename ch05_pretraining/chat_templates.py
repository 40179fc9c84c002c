"""Chat templates of published models: a conversation becomes the text that the model was trained to answer.

A template is a small program in the language Jinja2, and it comes from a stranger. So it runs in Jinja2's sandbox, with
the few functions that published templates call, and it sees the messages and the names of the special tokens only. It
runs in a process of its own, which ends where a template takes too long or too much memory.

Left out: tools and documents. Reference: the transformers library, whose texts are the same.
"""

from collections.abc import Mapping, Sequence

from ch05_pretraining.template_room import ROOM

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
        self._source, self._names = source, dict(names)
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
        answer = ROOM.fill(self._source, self._names | asked | {"tools": None, "documents": None})
        if "unread" in answer:
            raise ValueError(f"found a chat template that Jinja2 cannot read ({answer['unread']}); {ANOTHER}")
        if "failed" in answer:
            raise ValueError(
                f"the model's chat template does not take this conversation ({answer['failed']}); change the order or "
                "the roles of the messages, or take another model"
            )
        return answer["text"]
