"""Pictures of the simulated day, as `sealband readings plot` draws them: one for each wearer, and one of both."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from host_tools.sim.day import Seen

if TYPE_CHECKING:
    from host_tools.sim.site import Site

FORMATS: Final = ("svg", "png")


def available() -> bool:
    """Whether matplotlib is there, the extra `plot`."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(seen: Seen, site: "Site", folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write them; returns their paths. The site is still running.

    Raises:
        OSError: the disk refuses.
    """
    from host_tools.ingest.readings import Filter, Readings
    from host_tools.ingest.store import Payloads
    from host_tools.plot import picture, scene, sheet
    from sealwire.messages import EVENT, STATUS, TELEMETRY

    source = Readings(Payloads(site.vault))
    wanted = Filter(since=seen.begins, until=seen.begins + seen.plan.length_s)
    types = (TELEMETRY, EVENT, STATUS)
    span = scene.span_of(wanted, source.extent(wanted, types))
    if span is None:
        return []
    frames = source.opened(wanted, types)
    found = list(scene.scenes(frames, wanted, span, source.vocabulary, source.carried_out()))
    names = {eui: name for name, eui in seen.enrolled.items()}
    pages = {names.get(one.device, one.device): [one] for one in found} | {"day": found}
    written: list[Path] = []
    for name, shown in pages.items():
        for kind in formats:
            path = folder / f"{name}.{kind}"
            picture.write(path, picture.render(sheet.draw(shown, span, source.vocabulary), kind))
            written.append(path)
    return written
