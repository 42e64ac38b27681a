# The node's work as a coroutine beside others, the application's listeners among them. Loaded only where it is used.
import asyncio

from micropython import const

_SLICE_MS = const(1000)


# Until node.stop(). An event of another coroutine is sent within a second.
async def run(node):
    node.running = True
    node.listening = [asyncio.create_task(listener.serve(node)) for listener in node.app.listeners]
    while node.running:
        try:
            for pause_ms in node.work():
                await asyncio.sleep_ms(pause_ms)
            left_ms = node.next_ms()
        except Exception as error:
            left_ms = node.fault(error)
        while left_ms > 0 and node.running and not node.session.due():
            node.feed()
            await asyncio.sleep_ms(min(left_ms, _SLICE_MS))
            left_ms -= _SLICE_MS
