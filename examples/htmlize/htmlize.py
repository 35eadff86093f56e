"""Turn text into HTML: paragraphs are known here, everything else is what plugins registered for.

python htmlize.py post.txt
"""

import asyncio
import re
import sys
from html import escape
from pathlib import Path

from supervisor import Supervisor

from htmlize_proto import ExtensionStub, Html, Program, RoleText

ROLE = re.compile(r":(\w+):`([^`]*)`")


class Htmlizer:
    """The program, with what its plugins registered for."""

    def __init__(self) -> None:
        self.roles: dict[str, ExtensionStub] = {}
        self.contents: list[ExtensionStub] = []

    async def ask(self, extension: ExtensionStub) -> None:
        """Ask a plugin what it is interested in."""
        interests = await extension.register(Program())
        self.roles |= dict.fromkeys(interests.roles, extension)
        if interests.contents:
            self.contents.append(extension)

    async def convert(self, text: str) -> str:
        """Return the HTML of a text."""
        paragraphs = re.split(r"\n\s*\n", text.strip())
        html = "\n".join([f"<p>{await self.convert_roles(paragraph)}</p>" for paragraph in paragraphs])
        for extension in self.contents:
            html = (await extension.contents(Html(html=html))).html
        return html

    async def convert_roles(self, text: str) -> str:
        """Return a paragraph with each role done by who registered for it; what nobody knows stays as it is."""
        html, end = "", 0
        for match in ROLE.finditer(text):
            role, content = match.groups()
            if role in self.roles:
                done = await self.roles[role].role(RoleText(role=role, text=content))
                html += escape(text[end : match.start()], quote=False) + done.html
                end = match.end()
        return html + escape(text[end:], quote=False)


async def main(text: str) -> None:
    """Launch the plugins, ask each what it wants, convert a text."""
    async with Supervisor.from_config(Path(__file__).with_name("plugins.toml"), observers=()) as supervisor:
        htmlizer = Htmlizer()
        for name in supervisor.plugins:
            await htmlizer.ask(await supervisor.dispense(name, ExtensionStub))
        print(await htmlizer.convert(text))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_text()))
