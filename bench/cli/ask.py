"""The command `python -m bench ask`."""

from __future__ import annotations

import click


@click.command("ask", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sentence", nargs=-1, required=True)
def ask_command(sentence: tuple[str, ...]) -> None:
    """Show which task SENTENCE asks for, and its similarity to each stored instruction."""
    from systems.gensc.task_kb import TaskKB

    text = " ".join(sentence)
    knowledge = TaskKB()
    scores = knowledge.scores(text)
    width = max(map(len, scores))
    for instruction, score in sorted(scores.items(), key=lambda entry: -entry[1]):
        click.echo(f"{instruction:{width}}  {score:.3f}")
    click.echo(f"-> {knowledge.match(text)}")
