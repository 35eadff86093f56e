"""A plugin for whole contents: addresses become links."""

import re

from supervisor.sdk import serve

from htmlize_proto import ExtensionBase, Html, Interests, Program

ADDRESS = re.compile(r"https?://[^\s<>()]+[^\s<>().,;:!?]")


class Links(ExtensionBase):
    async def register(self, message: Program) -> Interests:
        return Interests(contents=True)

    async def contents(self, message: Html) -> Html:
        return Html(html=ADDRESS.sub(r'<a href="\g<0>">\g<0></a>', message.html))


if __name__ == "__main__":
    serve(Links())
