"""What memorycell wrote and reads again: model files, states and folders of spilled sessions."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import tiny_models
import torch
from containers import CHECKSUM, is_sealed
from mutations import mutate_bytes, mutate_container
from oracle import SilentChangeError

from memorycell import proof
from memorycell.application import modelfile
from memorycell.application.contract import AnyModelFile
from memorycell.application.predicting import predict_record
from memorycell.errors import UserError
from memorycell.inspection.report import inspection_page
from memorycell.nn.layers import of_cell
from memorycell.streaming.pool import Pool
from memorycell.streaming.stream import Stream


class ModelSubject:
    """A model file: one that loads can be used in every way."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.tiny = tiny_models.built(kind)
        self.raw = self.tiny.file.to_bytes()
        self.path = folder / "m.safetensors"

    def mutated(self, draw: Random) -> bytes:
        """A damaged file."""
        return mutate_container(self.raw, draw)

    def check(self, data: bytes, draw: Random) -> None:
        """Load it, and use it in one way."""
        self.path.write_bytes(data)
        file = modelfile.load(self.path)
        if data != self.raw and not is_sealed(data):
            raise SilentChangeError("a file with a wrong checksum is loaded")
        uses = [self.predict, self.predict, self.inspect, self.export]
        if self.tiny.items:
            uses += [self.stream, self.stream, self.prove]
        draw.choice(uses)(file)

    def predict(self, file: AnyModelFile) -> None:
        """A prediction, for the terminal, as JSON and as figures."""
        application = self.tiny.application
        options = application.predict_options(**self.tiny.options)
        record = predict_record(file, self.tiny.source, options)
        json.dumps(record, allow_nan=False)
        application.render(record)
        for draw in application.figures.values():
            draw(file, record)

    def stream(self, file: AnyModelFile) -> None:
        """Half of the items, a snapshot, and the rest in a session that continues from it."""
        application = self.tiny.application
        session = application.session(file, "float32", application.stream_options())
        half = len(self.tiny.items) // 2
        answers = [a for item in self.tiny.items[:half] for a in session.feed(item)]
        snapshot = session.snapshot()
        session = application.session(file, "float32", application.stream_options())
        session.restore(snapshot)
        answers += [a for item in self.tiny.items[half:] for a in session.feed(item)]
        json.dumps([*answers, *session.close()], allow_nan=False)

    def inspect(self, file: AnyModelFile) -> None:
        """The page of an inspection."""
        application = self.tiny.application
        source = self.tiny.source if application.inspect_reads is None else str(self.tiny.data)
        inspection_page(application.inspect(file, source))

    def export(self, file: AnyModelFile) -> None:
        """Every format that the model can be exported to."""
        for exporter in self.tiny.application.exporters.values():
            try:
                exporter.check(file)
            except UserError:
                continue
            exporter.write(file, "net", precision="float32", test=None)

    def prove(self, file: AnyModelFile) -> None:
        """A short proof on random inputs."""
        try:
            size = Stream(file.model).stepper.input_size
        except ValueError:  # bidirectional
            return
        rng = np.random.default_rng(0)
        inputs = file.model.random_inputs(rng, (6, size))
        proof.prove(file, inputs, precisions=("float32",), exports=())


class SessionSubject:
    """The snapshot of a session: one that is restored continues as before."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.tiny = tiny_models.built(kind)
        half = len(self.tiny.items) // 2
        session = self._session()
        for item in self.tiny.items[:half]:
            session.feed(item)
        self.raw = session.snapshot()
        self.rest = self.tiny.items[half:]
        self.expected = self._answers(session)

    def mutated(self, draw: Random) -> bytes:
        """A damaged snapshot."""
        return (mutate_bytes if draw.random() < 0.5 else mutate_container)(self.raw, draw)

    def check(self, data: bytes, draw: Random) -> None:
        """Restore it and go on."""
        session = self._session()
        session.restore(data)
        if self._answers(session) != self.expected and not is_changed_on_purpose(data):
            raise SilentChangeError("the session continues with other answers")

    def _session(self) -> Any:
        application = self.tiny.application
        return application.session(self.tiny.file, "float32", application.stream_options())

    def _answers(self, session: Any) -> str:
        answers = [a for item in self.rest for a in session.feed(item)]
        return json.dumps([*answers, *session.close()], allow_nan=False)


class StateSubject:
    """The state file of a raw stream."""

    def __init__(self, kind: str, folder: Path) -> None:
        torch.manual_seed(0)
        self.net = of_cell(kind, 3, 5, num_layers=2).eval()
        stream = Stream(self.net)
        stream.step(np.ones((4, 3), np.float32))
        self.raw = stream.snapshot(note="x", count=3)
        self.expected = stream.step(np.ones(3, np.float32)).tobytes()

    def mutated(self, draw: Random) -> bytes:
        """A damaged state."""
        return (mutate_bytes if draw.random() < 0.5 else mutate_container)(self.raw, draw)

    def check(self, data: bytes, draw: Random) -> None:
        """Restore it and go on."""
        stream = Stream(self.net)
        extra = stream.restore(data)
        following = stream.step(np.ones(3, np.float32)).tobytes()
        same = extra == {"note": "x", "count": 3} and following == self.expected
        if not same and not is_changed_on_purpose(data):
            raise SilentChangeError("the stream continues with other numbers or values")


def is_changed_on_purpose(state: bytes) -> bool:
    """Whether a state has the right checksum of other content, or is of the format without one."""
    return is_sealed(state) and (CHECKSUM.search(state) is not None or b"-state-1" in state)


class SpillSubject:
    """A folder of spilled sessions: all of them are there with their numbers, or the folder is
    refused.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        torch.manual_seed(0)
        self.net = of_cell("lstm", 2, 3).eval()
        self.original, self.copy = folder / "original", folder / "copy"
        pool = Pool(self.net, 1, spill=self.original, resident=1)
        slots = np.array([pool.open() for _ in range(6)])
        for slot in slots:
            pool.step([slot], np.full((1, 2), slot, np.float32))
        pool.close(int(slots[2]))
        for slot in np.delete(slots, 2):
            pool.step([slot], np.full((1, 2), -slot, np.float32))
        pool.shutdown()
        self.names = sorted(p.name for p in self.original.glob("spill-*"))
        shutil.copytree(self.original, self.copy)
        self.expected = self._states(self.copy)

    def mutated(self, draw: Random) -> bytes:
        """The number of a file and its damaged bytes."""
        number = draw.randrange(len(self.names))
        raw = (self.original / self.names[number]).read_bytes()
        change = mutate_bytes if draw.random() < 0.6 else mutate_container
        return bytes([number]) + change(raw, draw)

    def check(self, data: bytes, draw: Random) -> None:
        """Open the folder with one file damaged."""
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.original, self.copy)
        (self.copy / self.names[data[0]]).write_bytes(data[1:])
        if self._states(self.copy) != self.expected:
            raise SilentChangeError("other sessions, or other numbers")

    def _states(self, folder: Path) -> dict[int, bytes]:
        """Slot -> its next output."""
        pool = Pool(self.net, 1, spill=folder, resident=1)
        try:
            x = np.ones((1, 2), np.float32)
            return {int(slot): pool.step([slot], x).tobytes() for slot in pool.slots}
        finally:
            try:
                pool.shutdown()
            except UserError:  # after a failure the folder may be unusable
                release = getattr(pool, "release", None)
                if release is not None:
                    release()
