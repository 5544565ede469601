"""A chat room: what one member says, all members hear."""

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute

ROOM = """<!doctype html><link rel="icon" href="data:,"><script>
const said = (text) => fetch("/said?" + encodeURIComponent(text));
const enter = () => new WebSocket(`ws://${location.host}/room/socket`);
const long = "x".repeat(200_000);
const ada = enter();
ada.onclose = () => said("closed");
ada.onopen = () => {
  const ben = enter();
  ben.onopen = () => ada.send("Hello Ben");
  ben.onmessage = ({ data }) => data === "Hello Ben" && ben.send(long);
};
ada.onmessage = ({ data }) => data === long && said("Ada has heard Ben");
</script>"""

members = set()


async def chat(socket):
    await socket.accept()
    members.add(socket)
    try:
        async for text in socket.iter_text():
            for member in list(members):
                await member.send_text(text)
    finally:
        members.discard(socket)


async def room(request):
    return HTMLResponse(ROOM)


async def said(request):
    return PlainTextResponse("heard")


app = Starlette(routes=[Route("/room/", room), Route("/said", said), WebSocketRoute("/room/socket", chat)])
