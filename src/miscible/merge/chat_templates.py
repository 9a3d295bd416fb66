"""Chat templates by name, and whether a text is one.

The formats are those that the families publish: Alpaca (github.com/tatsu-lab/stanford_alpaca, "Data
Release"), ChatML (OpenAI's chat markup), Llama 3 (Meta's "Model Cards & Prompt formats"), Mistral
7B Instruct v0.2 and EXAONE 3 Instruct (their model cards).
"""

from __future__ import annotations

from types import MappingProxyType

from miscible.errors import RecipeError

_ALPACA = """\
{%- for message in messages -%}
{%- if loop.first and message.role != "system" -%}
{{ "Below is an instruction that describes a task. Write a response that appropriately completes \
the request.\\n\\n" }}
{%- endif -%}
{%- if message.role == "system" -%}
{{ message.content ~ "\\n\\n" }}
{%- elif message.role == "user" -%}
{{ "### Instruction:\\n" ~ message.content ~ "\\n\\n" }}
{%- elif message.role == "assistant" -%}
{{ "### Response:\\n" ~ message.content ~ eos_token ~ "\\n\\n" }}
{%- else -%}
{{ raise_exception("Alpaca has no role '" ~ message.role ~ "'.") }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ "### Response:\\n" }}
{%- endif -%}
"""

_CHATML = """\
{%- for message in messages -%}
{{ "<|im_start|>" ~ message.role ~ "\\n" ~ message.content ~ "<|im_end|>\\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ "<|im_start|>assistant\\n" }}
{%- endif -%}
"""

_LLAMA3 = """\
{{- bos_token }}
{%- for message in messages -%}
{{ "<|start_header_id|>" ~ message.role ~ "<|end_header_id|>\\n\\n" }}
{{- message.content | trim ~ "<|eot_id|>" }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}
{%- endif -%}
"""

_MISTRAL = """\
{{- bos_token }}
{%- set turn = namespace(system="", expected="user") -%}
{%- for message in messages -%}
{%- if loop.first and message.role == "system" -%}
{%- set turn.system = message.content ~ "\\n\\n" -%}
{%- elif message.role != turn.expected -%}
{{ raise_exception("Mistral's roles are user and assistant in turn, after at most one system \
message.") }}
{%- elif message.role == "user" -%}
{{ "[INST] " ~ turn.system ~ message.content ~ " [/INST]" }}
{%- set turn.system = "" -%}
{%- set turn.expected = "assistant" -%}
{%- else -%}
{{ " " ~ message.content | trim ~ eos_token }}
{%- set turn.expected = "user" -%}
{%- endif -%}
{%- endfor -%}
"""

_EXAONE = """\
{%- if not messages or messages[0].role != "system" -%}
{{ "[|system|][|endofturn|]\\n" }}
{%- endif -%}
{%- for message in messages -%}
{%- set ending = "\\n" if message.role == "user" else "[|endofturn|]\\n" -%}
{{ "[|" ~ message.role ~ "|]" ~ message.content ~ ending }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ "[|assistant|]" }}
{%- endif -%}
"""

PRESETS = MappingProxyType(
    {
        "alpaca": _ALPACA,
        "chatml": _CHATML,
        "exaone": _EXAONE,
        "llama3": _LLAMA3,
        "mistral": _MISTRAL,
    }
)
"""Chat templates by the names that recipes give them."""


def is_text(value: str) -> bool:
    """Return whether a string can be written as UTF-8 (JSON and YAML can hold lone surrogates)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_syntax(template: str) -> None:
    """Refuse a text that is not Jinja as transformers reads chat templates; nothing of it is run.

    Raises:
        RecipeError: with the line of the template.
    """
    if not is_text(template):
        raise RecipeError("the template holds halves of characters.", where="chat_template")
    from jinja2 import Environment, TemplateError, nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class Generation(Extension):
        """``{% generation %}``, with which templates mark what the assistant says."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))

    environment = Environment(  # noqa: S701 - text for a model, not a page
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", Generation],
    )
    try:
        # Some mistakes (an unknown filter) are found only when code is made of the parsed text.
        environment.compile(template, raw=True)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        place = f", line {line}" if line is not None else ""
        raise RecipeError(
            f"not a Jinja template: {error.message}.", where=f"chat_template{place}"
        ) from error
    except (RecursionError, MemoryError) as error:
        raise RecipeError("the template is nested too deeply.", where="chat_template") from error
