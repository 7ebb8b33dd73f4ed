"""`vigil models import`: a model that was made elsewhere becomes the first champion of a workspace, on a person's word."""

import json
import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workspace.blocks import mistakes_of
from workspace.errors import ModelFileError, PromotionConflict, SettingsError, WorkspaceError, in_one_line
from workspace.files import atomic_file, sha256_bytes, sha256_file
from workspace.journal import Journal
from workspace.lease import lease
from workspace.settings import Settings
from workspace.state import IMPORTED, champion, open_cycle

if TYPE_CHECKING:
    from model.card import ModelCard
    from model.foreign import Contract
    from model.inference import Engine

BUILDING = Path(".vigil/building") / IMPORTED
TAG = f"vigil/{IMPORTED}"
JUDGES = ("faces", "threshold", "temperature", "offset", "levels", "abstain", "generators_seen")  # of a card: what decides a verdict beside the network


def import_model(root: Path, settings: Settings, source: Path, words: list[str], card_file: Path | None, who: str, why: str) -> dict[str, Any]:
    """Check, adapt and probe the model in `source`, then promote it; returns what `--json` shows. Safe to repeat after a kill.

    Raises ModelFileError for what cannot be a model here, SettingsError for a contract that cannot be used, PromotionConflict where there is a
    champion already, be it the same model under another contract; WorkspaceError while a first cycle is unfinished.
    """
    from model.card import CARD, ONNX, WEIGHTS, load_card
    from model.foreign import own_pixels, probe, refuse_misread, sniff
    from model.inference import Engine
    from vigil.deciding import set_aliases
    from workspace import promotion, repository

    kind = sniff(source)
    if (words or card_file) and (source / CARD).is_file():
        raise SettingsError(
            f"Refused the contract for {source}. Nothing was imported.",
            why=f"its {CARD} says threshold and crops already, and --set and --card would not count",
            next_step=f"Leave out --set and --card, or name {source / WEIGHTS} alone, of which no card counts.",
        )
    with lease(root, "import"), ExitStack() as after:
        events = Journal(root).events()
        now = champion(events)
        if now and now.cycle != IMPORTED:
            raise promotion.refuse_import(now)
        if not now and (running := open_cycle(events)):
            raise WorkspaceError(
                "Nothing was imported.",
                why=f"{running.cycle} is not finished, and was opened with no champion to beat: all that it trains would be for nothing",
                next_step="Run `vigil retrain` to finish it; or end it by `vigil batches hold` of what it judges and `vigil retrain`, then import.",
            )
        contract = read_contract(words, card_file)
        brought = brought_card(source) if kind == "folder" else None
        if brought and not now:
            refuse_other_crops(source, brought, settings)
        folder = root / BUILDING
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        after.callback(shutil.rmtree, folder, ignore_errors=True)
        if kind == "onnx":
            card, origin = from_onnx(source, contract, settings, folder)
        else:
            card, origin = from_weights(source, brought, contract, settings, folder)
        told = {"frame_pixels": own_pixels(source.read_bytes(), card.faces.size_px)} if kind == "onnx" else {}
        said = {} if kind == "folder" else {"contract": contract.model_dump(mode="json")}  # of a folder its card counts
        card = write_with(folder, card, {"source": source.name, "source_sha256": origin, **said, **told, "who": who, "why": why})
        probed = probe(loaded(folder, settings) if kind == "onnx" else Engine(folder, threads=settings.serve.threads))
        if kind == "onnx" and card.onnx_sha256 != origin:  # the same: one of ours, which says itself what it answers
            refuse_misread((folder / ONNX).read_bytes(), contract, card.faces.size_px, card.faces.clip_frames)
        card = write_with(folder, card, {**card.imported, "probe": probed})
        place = root / "models" / IMPORTED
        if now:
            if now.model_sha256 != card.model_sha256:
                raise promotion.refuse_import(now)
            refuse_another_contract(load_card(place), card)
        else:
            repository.replace_folder(folder, place)
        repository.dvc_add(root, [place])
        event = promotion.import_champion(root, place, model_sha256=card.model_sha256, source_sha256=origin, who=who, why=why)
        repository.commit(root, f"Import {card.model_id}: {why}", TAG)
        set_aliases(root, settings, f"{card.model_id} is the champion ({who}: {why}).")
    return {
        "model_sha256": card.model_sha256, "source": str(source), "source_sha256": origin, "kind": kind, "trainable": card.model is not None,
        "size_px": card.faces.size_px, "threshold": card.threshold, "probe": probed, "cycle": IMPORTED, "time": event.time,
    }  # fmt: skip


def loaded(folder: Path, settings: Settings) -> "Engine":
    """The adapted file in onnxruntime. Raises ModelFileError where that does not take it."""
    from model.foreign import refusal
    from model.inference import Engine

    try:
        return Engine(folder, threads=settings.serve.threads)
    except ModelFileError as problem:
        raise refusal(f"onnxruntime does not take it: {problem.why}") from problem


def refuse_another_contract(stands: "ModelCard", card: "ModelCard") -> None:
    """Raise PromotionConflict where the same model as the champion would judge, or say of itself, anything else than the champion's card."""
    old, new = ({**one.imported.get("contract", {}), **one.model_dump(mode="json", include=set(JUDGES))} for one in (stands, card))
    if differs := [name for name in new if name in old and old[name] != new[name]]:
        told = ["other crops (`faces`)" if name == "faces" else f"{name} {json.dumps(old[name])}, not {json.dumps(new[name])}" for name in differs]
        raise PromotionConflict(
            "Nothing was imported.",
            why=f"{stands.model_id} is champion already, and its card says {'; '.join(told)}",
            next_step="Import it into a new workspace (`vigil init`); in this one a model changes through a cycle and its gates.",
        )


def read_contract(words: list[str], card_file: Path | None) -> "Contract":
    """The contract of a small YAML or JSON file, with KEY=VALUE words laid over it. Raises SettingsError listing every mistake."""
    import yaml
    from pydantic import ValidationError

    from model.foreign import Contract

    try:
        raw = yaml.safe_load(card_file.read_text(encoding="utf-8")) if card_file else {}
        if not isinstance(raw, dict):
            raise ValueError(f"{card_file} is not a mapping")
        for word in words:
            key, equals, value = (part.strip() for part in word.partition("="))
            if not equals:
                raise ValueError(f"{word!r} is not KEY=VALUE")
            raw[key] = value if _is_text(key, value) else yaml.safe_load(value)
        return Contract.model_validate(raw)
    except (OSError, ValueError, yaml.YAMLError) as problem:
        if isinstance(problem, ValidationError):
            mistakes = mistakes_of(problem)
        else:
            mistakes = [f"{card_file}: {problem.strerror}" if isinstance(problem, OSError) else str(problem)]
        raise SettingsError(
            "This model's contract cannot be used. Nothing was imported.", why="\n        ".join(mistakes), next_step="docs/import.md lists the keys."
        ) from problem


def _is_text(key: str, value: str) -> bool:
    """Whether a word is taken as it stands: text that is not in quotes, of which YAML may make a number, a mapping or a comment."""
    from model.foreign import Contract

    field = Contract.model_fields.get(key)
    return field is not None and field.annotation is str and not re.fullmatch(r"""(["']).*\1""", value)


def from_onnx(source: Path, contract: "Contract", settings: Settings, folder: Path) -> tuple["ModelCard", str]:
    """Write model.onnx, adapted to this workspace's crops, into `folder`; its card and the sha256 of the file as it came."""
    from model.foreign import adapt

    content = source.read_bytes()
    served = adapt(content, contract, settings.faces.size_px)
    with atomic_file(folder / "model.onnx", "wb") as handle:
        handle.write(served)
    sha256 = sha256_bytes(served)
    return new_card(settings, contract, model_sha256=sha256, onnx_sha256=sha256, model=None), sha256_bytes(content)


def brought_card(source: Path) -> "ModelCard":
    """The card of a model folder from elsewhere, once its files are those that it names. Raises ModelFileError, with what can be done: no DVC here has it."""
    from model.card import CARD, RESTORE, WEIGHTS, verify

    what = f"Refused {source}. Nothing was imported."
    if not (source / CARD).is_file():
        raise ModelFileError(what, why=f"it has no {CARD}", next_step="Name its weights or its ONNX file instead.")
    try:
        card = verify(source)
    except ModelFileError as problem:
        step = problem.next_step.replace(RESTORE, "Copy the folder anew from where it was made.")
        alone = f"Or name {source / WEIGHTS} alone, where that is whole: then the threshold is --set threshold=..., and crops are this workspace's."
        raise ModelFileError(what, why=in_one_line(problem), next_step=f"{step} {alone}") from problem
    if card.model is None:
        raise ModelFileError(what, why="it is an import itself", next_step="Name the ONNX file that it came from.")
    return card


def refuse_other_crops(source: Path, card: "ModelCard", settings: Settings) -> None:
    """Raise ModelFileError where the workspace cuts faces another way than the card says: the model would serve on the ones, and be judged on the others."""
    from flows.opening import CROPS, differing
    from model.card import WEIGHTS

    its, ours = card.faces.model_dump(mode="json"), settings.faces.model_dump(mode="json")
    if other := differing(its, ours, CROPS):
        alone = f" Or name {source / WEIGHTS} alone: then crops are this workspace's, and the threshold --set threshold=..."
        raise ModelFileError(
            f"Refused {source}. Nothing was imported.",
            why="it looks at other crops than this workspace keeps, so it could not be compared with what is trained here: "
            + "; ".join(f"its card's faces.{name} is {its[name]}, here {ours[name]}" for name in other),
            next_step=f"Set {', '.join(f'faces.{name} to {its[name]}' for name in other)} in params.yaml, or import into another workspace."
            + alone * ("size_px" not in other),
        )


def from_weights(source: Path, card: "ModelCard | None", contract: "Contract", settings: Settings, folder: Path) -> tuple["ModelCard", str]:
    """Copy a model folder, or export bare weights of our network, into `folder`; its card and the sha256 of the weights.

    The card of a folder tells crops and threshold. Of bare weights they are this workspace's and the contract's, whatever lies beside.
    """
    from model.card import CARD, ONNX, WEIGHTS
    from model.checkpoint import load_model
    from model.export import export_onnx, parity
    from model.foreign import golden_clips, not_counting
    from model.quantise import INT8

    weights = source if card is None else source / WEIGHTS
    sha256 = sha256_file(weights)
    network = load_model(weights, sha256)
    if card is None and (why := not_counting(contract)):
        raise ModelFileError(f"Refused {source}. Nothing was imported.", why=why, next_step="Leave these out.")
    size = settings.faces.size_px
    if network.size_px != size:
        raise ModelFileError(
            f"Refused {source}. Nothing was imported.",
            why=f"it looks at faces of {network.size_px} px, this workspace keeps them at {size} px, so it could not be compared with what is trained here",
            next_step=f"Set faces.size_px to {network.size_px} in params.yaml, or import into another workspace.",
        )
    shutil.copyfile(weights, folder / WEIGHTS)
    if card is not None:
        shutil.copyfile(source / ONNX, folder / ONNX)
    else:
        card = new_card(settings, contract, model_sha256=sha256, onnx_sha256=export_onnx(network, folder / ONNX), model=network.settings)
    moved = parity(network, folder / ONNX, golden_clips(size, settings.faces.clip_frames))
    if not moved <= settings.gates.max_parity:
        bound = f"Set gates.max_parity as its {CARD} has it under `settings`, or higher, in params.yaml: it is in 8 bits. Or: " if card.engine == INT8 else ""
        alone = f"Name {weights} alone: it is exported anew, its threshold is --set threshold=..., and offset, levels and operating points are lost."
        raise ModelFileError(
            f"Refused {source}. Nothing was imported.",
            why=f"its ONNX file and its weights differ by {moved:.2g} of p_fake on golden clips ({settings.gates.max_parity:g} allowed)",
            next_step=f"{bound}{alone}" if source.is_dir() else "Name an ONNX file of it instead.",
        )
    return card, sha256


def new_card(settings: Settings, contract: "Contract", **named: Any) -> "ModelCard":
    """A card for a model that brings none."""
    from model.card import ModelCard

    return ModelCard(
        format=1, engine="onnxruntime-fp32", created="", cycle=IMPORTED, faces=settings.faces, threshold=contract.threshold, temperature=contract.temperature,
        abstain=settings.evaluate.abstain, generators_seen=contract.generators_seen, train_clips=(), data_hash="", **named,
    )  # fmt: skip


def write_with(folder: Path, card: "ModelCard", imported: dict[str, Any]) -> "ModelCard":
    """The card as an import's, written into `folder`; the cycle that trained it elsewhere is kept beside the rest."""
    from model.card import write_card

    elsewhere = {} if card.cycle == IMPORTED else {"cycle": card.cycle}
    card = card.model_copy(update={"cycle": IMPORTED, "imported": {**card.imported, **elsewhere, **imported}})
    write_card(folder, card)
    return card


def render_import(found: dict[str, Any]) -> str:
    """What was done, for people."""
    from model.aggregate import as_estimate

    low, high = (as_estimate(end(found["probe"]["p_fake"])) for end in (min, max))
    lines = [
        f"{found['model_sha256'][:12]} is champion: {found['source']} (sha256 {found['source_sha256'][:12]}).",
        f"  It judges faces of {found['size_px']} px at threshold {found['threshold']:g}.",
        f"  Probed on {found['probe']['clips']} golden clips: p_fake {low} to {high}. No gate has measured it; the journal names who answers for it.",
    ]
    if not found["trainable"]:
        lines.append("  It has no weights of ours: the next cycle's model starts from nothing, and is judged against it.")
    return "\n".join([*lines, "  Next: vigil score FILE, vigil evaluate SOURCE, vigil ingest MEDIA and vigil retrain"])
