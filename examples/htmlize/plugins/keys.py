"""A plugin for two roles: :kbd:`...` is a key to press, :file:`...` a file."""

from html import escape

from supervisor.sdk import serve

from htmlize_proto import ExtensionBase, Html, Interests, Program, RoleText

TAGS = {"kbd": "kbd", "file": "code"}


class Keys(ExtensionBase):
    async def register(self, message: Program) -> Interests:
        return Interests(roles=list(TAGS))

    async def role(self, message: RoleText) -> Html:
        tag = TAGS[message.role]
        return Html(html=f"<{tag}>{escape(message.text)}</{tag}>")


if __name__ == "__main__":
    serve(Keys())
