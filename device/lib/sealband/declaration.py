# What App is told, checked and taken over. Loaded for the occasion.
from sealwire.recordids import RECORD_MAX


def take(
    app,
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
    watchers=(),
):
    # what this board does not have
    sensors = [every for every in sensors if every.sensor]
    seen = [record for every in sensors for record in every.sensor.records]
    if len(set(seen)) != len(seen):
        raise ValueError("two sensors give the same record")
    if seen and not 1 <= min(seen) <= max(seen) <= RECORD_MAX:
        raise ValueError("a record id is 1 to %d" % RECORD_MAX)
    if type(patience_s) is not int or patience_s < 0:
        raise ValueError("patience is whole seconds")
    if deep_sleep and listeners:
        raise ValueError("nothing is heard in deep sleep")
    app.sensors = sensors
    app.watchers = [watcher for watcher in watchers if watcher]
    app.links = list(links)
    app.defaults = {
        "send_every_s": send_every_s,
        "status_every_s": status_every_s,
        "spreading_factor": spreading_factor,
    }
    app.deep_sleep = deep_sleep
    app.watchdog_s = watchdog_s
    app.on_sample = on_sample
    app.echo = echo
    app.listeners = listeners
    app.patience_s = patience_s
    app.ask_first = ask_first
