"""The process in which chat templates are filled; `ch05_pretraining/template_room.py` starts it and talks with it.

A template may loop for ever or double a text forty times. So it is filled here, where there is an end to time, memory
and text, and where nothing is lost when the process ends itself.

Run as a program only. A request is one line of JSON and so is the answer: {"text": …}, {"unread": …} or {"failed": …}.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
import time
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from jinja2 import Template

__all__: list[str] = []  # a program of its own; nothing here is part of the course's vocabulary

MOST_BYTES, MOST_CHARACTERS = 512 << 20, 10_000_000
TOO_MUCH_MEMORY, LOOK_EVERY = 77, 0.05  # exit status, and seconds between two looks at the memory


def main() -> None:
    """Answer requests until no more come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the program that asks
    _limit_memory()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        for line in sys.stdin:
            print(json.dumps(_answer(json.loads(line), nowhere)), flush=True)


def _answer(request: dict, nowhere: TextIO) -> dict[str, str]:
    """Fill a template; one that takes longer than it may is ended by a clock that no template can hold up."""
    faulthandler.dump_traceback_later(request["seconds"], exit=True, file=nowhere)
    step = "unread"
    try:
        template, step = _template(request["source"]), "failed"
        text = template.render(request["given"])
        if len(text) > MOST_CHARACTERS:
            return {step: f"it writes {len(text):,} characters; at most {MOST_CHARACTERS:,} may be written"}
        return {"text": text}
    except MemoryError:
        return {step: f"it takes more than {MOST_BYTES >> 20} MB of memory"}
    except Exception as error:  # what a stranger wrote may fail in any way
        return {step: (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")}
    finally:
        faulthandler.cancel_dump_traceback_later()


@lru_cache(4)
def _template(source: str) -> "Template":
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    room = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    room.filters["tojson"] = _tojson
    room.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    return room.from_string(source)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)


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


def _limit_memory() -> None:
    """Let Linux refuse more memory; elsewhere a thread looks often, and ends the process."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2 * MOST_BYTES, 2 * MOST_BYTES))  # of addresses; half may be in use
    threading.Thread(target=_watch_memory, daemon=True).start()


def _watch_memory() -> None:
    import psutil

    process = psutil.Process()
    while process.memory_info().rss < MOST_BYTES:
        time.sleep(LOOK_EVERY)
    os._exit(TOO_MUCH_MEMORY)


if __name__ == "__main__":
    main()
