# What an application declares: which sensors how often, and over which links. It runs nothing.
from sealband.sampler import Every
from sealwire.recordids import RECORD_MAX

__all__ = ("App", "Every")


class App:
    # sensors: [Every(seconds, sensor) ...]; links: in order of preference
    # send_every_s, status_every_s: until the server configures others
    # deep_sleep: sleep deeply between wake-ups, which restarts the board; else it stays awake
    # watchdog_s: reset the board when the loop hangs so long; None: none (it can't be stopped, not even by the REPL)
    # listeners: coroutines beside the work, each `await listener.serve(node)`; only on a board that stays awake
    # patience_s: so long telemetry waits for the cheapest link (the least `grade`) before it goes over a dearer one
    # ask_first: nothing is sampled until the server has said what the wearer agrees to
    # on_sample(node, record, t, value): may call node.event(id, value ...)
    def __init__(
        self,
        sensors,
        links,
        send_every_s=600,
        status_every_s=86400,
        spreading_factor=7,
        deep_sleep=False,
        watchdog_s=None,
        on_sample=None,
        echo=True,
        listeners=(),
        patience_s=3600,
        ask_first=False,
    ):
        seen = [record for every in sensors for record in every.sensor.records]
        if len(set(seen)) != len(seen):
            raise ValueError("two sensors give the same record")
        if seen and not 1 <= min(seen) <= max(seen) <= RECORD_MAX:
            raise ValueError("a record id is 1 to %d" % RECORD_MAX)
        if deep_sleep and listeners:
            raise ValueError("nothing is heard in deep sleep")
        self.listeners = listeners
        self.patience_s = patience_s
        self.ask_first = ask_first
        self.sensors = list(sensors)
        self.links = list(links)
        self.defaults = {
            "send_every_s": send_every_s,
            "status_every_s": status_every_s,
            "spreading_factor": spreading_factor,
        }
        self.deep_sleep = deep_sleep
        self.watchdog_s = watchdog_s
        self.on_sample = on_sample
        self.echo = echo  # print the log on the serial port
