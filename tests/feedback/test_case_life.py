"""Any order of uploads, answers, second thoughts, quarantines, hand-overs and erasures: what must always hold, holds."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import select

from feedback import audit
from feedback.cases import AlreadyReviewed, NotReviewable, TooLate, decided
from feedback.erasing import Erasing
from feedback.handover import export_reviewed, mark_ingested, waiting
from feedback.retention import Retention
from feedback.tables import CASES, ERASURES, MEDIA, OUTBOX, REVIEWS
from tests.feedback.test_handover import rows_of
from tests.feedback.world import JPEG, World
from tests.size import drill
from workspace.files import sha256_bytes

FILES = [JPEG + bytes([number]) for number in range(2)]
FILE, PERSON, LABEL = st.sampled_from(FILES), st.integers(0, 2), st.sampled_from(["real", "fake", "unsure"])
REFUSALS = (AlreadyReviewed, NotReviewable, TooLate)


class CaseLife(RuleBasedStateMachine):
    """One service and one training, whose batch holds what it was given."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="vigil-life-"))
        self.world = World(self.root / "w", queue__source_cap=0.5, queue__source_cap_free=1)
        self.people = [self.world.ann, self.world.bob, self.world.cy]
        self.keeping = Retention(self.world.database, self.world.media, self.world.settings.feedback)
        self.trained: dict[str, str] = {}  # case id -> label, as the batches have it
        self.uploads: dict[str, list[str]] = {}
        self.exported: list[dict[str, str]] = []
        self.contents: set[str] = set()
        for content, label in zip(FILES, ("real", "fake"), strict=True):
            self.upload(content, 0)
            self.agree(content, label)

    def teardown(self) -> None:
        if hasattr(self, "root"):
            self.world.close()
            shutil.rmtree(self.root)

    def case_of(self, content: bytes) -> str:
        query = select(CASES.c.id).where(CASES.c.sha256 == sha256_bytes(content))
        with self.world.database.read() as connection:
            return connection.execute(query).scalar_one_or_none() or "none"

    @rule(content=FILE, owner=st.integers(0, 1))
    def upload(self, content: bytes, owner: int) -> None:
        detection_id, _ = self.world.upload(content, owner=(self.world.sender, self.world.user("second"))[owner])
        self.uploads.setdefault(sha256_bytes(content), []).append(detection_id)

    @rule(content=FILE, person=PERSON, label=LABEL)
    def review(self, content: bytes, person: int, label: str) -> None:
        try:
            self.world.cases.review(self.people[person], self.case_of(content), label)
        except REFUSALS:
            return

    @rule(content=FILE, label=st.sampled_from(["real", "fake"]))
    def agree(self, content: bytes, label: str) -> None:
        for person in range(2):
            self.review(content, person, label)

    @rule(content=FILE, person=PERSON)
    def undo(self, content: bytes, person: int) -> None:
        try:
            self.world.cases.undo(self.people[person], self.case_of(content))
        except REFUSALS:
            return

    @rule(content=FILE, what=st.sampled_from(["quarantine", "release", "gold", "no gold"]))
    def govern(self, content: bytes, what: str) -> None:
        cases, case_id = self.world.cases, self.case_of(content)
        try:
            if what == "quarantine":
                cases.quarantine(self.world.cy, case_id, "a doubt")
            elif what == "release":
                cases.release(self.world.cy, case_id)
            else:
                cases.set_gold(self.world.cy, case_id, "real" if what == "gold" else "")
        except REFUSALS:
            return

    @rule(content=FILE, label=st.sampled_from(["real", "fake"]))
    def train(self, content: bytes, label: str) -> None:
        self.upload(content, 0)
        self.agree(content, label)
        self.export()
        self.take_in()

    @rule()
    def export(self) -> None:
        folder = export_reviewed(self.world.root, self.world.settings)
        self.exported = rows_of(folder) if folder is not None else []

    @rule()
    def take_in(self) -> None:
        """Training takes what was exported last, however long ago that was, and once by content."""
        taken = [row for row in self.exported if row["path"][:64] not in self.contents]
        self.exported = []
        for row in taken:
            self.contents.add(row["path"][:64])
            self.trained[row["case_id"]] = row["label"]
        labels = {(sha256, label): "batch" for sha256 in self.contents for label in ("real", "fake")}
        mark_ingested(self.world.root, self.world.settings, labels)

    @rule(content=FILE)
    def erase(self, content: bytes) -> None:
        for detection_id in self.uploads.get(sha256_bytes(content), [])[-1:]:
            Erasing(self.world.database, self.world.media).erase(self.world.sender, detection_id)

    @rule()
    def keep_long_enough(self) -> None:
        self.keeping.sweep("2999-01-01T00:00:00+00:00")

    @invariant()
    def what_must_hold(self) -> None:
        if not hasattr(self, "root"):
            return
        with self.world.database.read() as connection:
            cases = {row["id"]: dict(row) for row in connection.execute(CASES.select()).mappings()}
            outbox = {row.case_id: row.state for row in connection.execute(OUTBOX.select())}
            gone = {row.sha256 for row in connection.execute(MEDIA.select().where(MEDIA.c.state == "deleted"))}
            erased = {row.sha256 for row in connection.execute(ERASURES.select())}
            said: dict[str, list[Any]] = {}
            for row in connection.execute(REVIEWS.select().where(REVIEWS.c.undone_at == "").order_by(REVIEWS.c.created_at, REVIEWS.c.id)):
                said.setdefault(row.case_id, []).append(row)
        erased_cases = {case_id for case_id, case in cases.items() if case["sha256"] in erased}
        assert all(outbox.get(case_id) == "ingested" for case_id in self.trained.keys() - erased_cases), "what training has was taken back"
        for case_id, case in cases.items():
            answers = said.get(case_id, [])
            assert len({row.reviewer_id for row in answers}) == len(answers)
            settled = decided([row.label for row in answers], 2)
            if case["state"] == "decided":
                assert case["label"] == settled != "" and not case["gold"]
            elif case["state"] == "open":
                assert case["sha256"] not in gone, "people are asked about what nobody can see"
                assert case["label"] == "" and (settled == "" or case["gold"])
            trains = case["state"] == "decided" and case["label"] != "unsure" and case["sha256"] not in erased
            if outbox.get(case_id) == "waiting":
                assert trains
            elif trains:
                assert outbox[case_id] in ("exported", "ingested"), "a label was lost"
            if outbox.get(case_id) == "ingested" and case["state"] == "decided" and case["sha256"] not in erased:
                assert self.trained[case_id] == case["label"], "training has another label than the people gave"
        assert waiting(self.world.root, self.world.settings) <= len(outbox)
        assert audit.verify(self.world.database).broken_at == 0


TestCaseLife = CaseLife.TestCase
TestCaseLife.settings = settings(max_examples=drill(8, 20), stateful_step_count=25, deadline=None)
