"""Settings tried in place of those in params.yaml: Optuna draws them, each is trained on the last cycle's sets, validation judges.

Trial 0 has the values of params.yaml (the literature's point), so that every other is a comparison with it. What no trial has, for it would cost
some times as much or belongs to a champion: attacks during training, hardened clips, distillation, the champion's weights. Each learns from
the drawn clips alone, in one process, for as many steps as were asked for, and begins as a first model does. The page names which of these
params.yaml would have had (`lacking`). A trial that is behind the median of the others at the same step is given up. The study lies in
.vigil/search.db under a name that changes with the sets, the settings that are varied, the budget, and the settings that a training reads: the
same command goes on with it, and where another of these settings begins a new one, that is said. Each trial is a child run in MLflow.
What is found was chosen on validation, so its AUC is too good; nothing is written to params.yaml, and the gates judge as always.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.compare import Sets, measure, read_sets, recipe_of, train_anew
from pipelines.pretrain import CHECKPOINTS
from pipelines.scoring import Tell, silent
from workspace.errors import DataError, Diverged, SettingsError
from workspace.journal import Journal
from workspace.owning import SEARCH_TAG
from workspace.processes import stage_lock
from workspace.registry import open_registry, prepare
from workspace.settings import Settings
from workspace.state import champion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

LOG = logging.getLogger("vigil.search")
STUDIES = Path(".vigil/search.db")
LOOKS = 5  # at validation, in each phase
MOST = 50_000  # runs that MLflow tells at once
STARTUP = 4  # trials that are neither modelled nor given up: the median of fewer says nothing
# setting -> (lowest, highest, whether on a log scale)
SPACE: dict[str, tuple[float, float, bool]] = {
    "pretrain.lr": (1e-4, 1e-2, True),
    "pretrain.weight_decay": (1e-4, 1e-1, True),
    "train.lr": (1e-5, 3e-3, True),
    "train.focal_gamma": (0.0, 4.0, False),
    "train.wasserstein": (0.0, 0.6, False),
    "model.dropout": (0.0, 0.6, False),
    "model.fusion_cnn": (0.2, 1.0, False),
    "augment.degrade": (0.0, 1.0, False),
    "augment.poor_reals": (0.0, 1.0, False),
}
ASIDE = {"adversarial_steps": 0, "distillation": 0.0}  # of phase 2, in every trial
# setting -> where it changes nothing: another setting and its value
IDLE: dict[str, tuple[tuple[str, str | float], ...]] = {
    "train.focal_gamma": (("train.loss", "bce"), ("train.wasserstein", 1.0)),
    "augment.poor_reals": (("augment.degrade", 0.0),),
}


def search(root: Path, settings: Settings, trials: int, steps: int, fit_steps: int, names: list[str] | None = None, tell: Tell = silent) -> dict[str, Any]:
    """Go on until the study has `trials` finished trials; returns what `report` says.

    `steps` of phase 1 and `fit_steps` of phase 2 a trial; `names` are the settings to vary, by default all of SPACE that change anything. Raises
    DataError before the first cycle and where validation lacks a class, SettingsError for a name that is unknown or changes nothing, LeaseHeldError
    while another search runs here.
    """
    chosen = _chosen(settings, names)
    with stage_lock(root, "search", wait_seconds=0.0):  # two would take each other's trial for one that was killed
        sets = read_sets(root, settings)
        study = _open(sets, settings, chosen, steps, fit_steps)
        runs = _Runs(root, settings, study.study_name)
        runs.log(_ended(study))  # of one that ended as the search was killed nobody would read there
        while (done := len(_ended(study))) < trials:
            trial = study.ask({name: _distribution(settings, name) for name in chosen})

            def told(step: int, total: int, message: str = "", done: int = done) -> None:
                tell(step, total, f"trial {done} of {trials}  {message}")

            _try(sets, _laid_over(settings, trial.params, steps, fit_steps), study, trial, told)
            runs.log(_ended(study))
        return report(study, settings, champion(Journal(root).events()) is not None)


def _chosen(settings: Settings, names: list[str] | None) -> list[str]:
    if unknown := sorted(set(names or []) - SPACE.keys()):
        raise SettingsError(f"Cannot search over {', '.join(unknown)}.", why=f"known are {', '.join(SPACE)}", next_step="Mend the name.")
    idle = {
        name: f"{switch} is {value}"
        for name in names or SPACE
        for switch, value in IDLE.get(name, ())
        if switch not in (names or SPACE) and _setting(settings, switch) == value
    }
    if names and idle:
        name, why = next(iter(idle.items()))
        raise SettingsError(f"Cannot search over {name}.", why=f"it changes nothing while {why}", next_step="Mend that in params.yaml, or leave it out.")
    return [name for name in SPACE if name in (names or SPACE) and name not in idle]  # in whatever order they were named, and how often


def _distribution(settings: Settings, name: str) -> "BaseDistribution":
    """The range of SPACE, widened to hold the value of params.yaml: trial 0 is that value, whatever it is (0 has no place on a log scale)."""
    from optuna.distributions import FloatDistribution

    low, high, log = SPACE[name]
    mine = _value(settings, name)
    return FloatDistribution(min(low, mine), max(high, mine), log=log and mine > 0)


def _open(sets: Sets, settings: Settings, chosen: list[str], steps: int, fit_steps: int) -> "Study":
    """The study of these sets, settings and budget, new or as it was left; what a killed process was trying is tried again."""
    import optuna
    from optuna.trial import TrialState
    from sqlalchemy.exc import DatabaseError, OperationalError

    optuna.logging.set_verbosity(logging.ERROR)
    recipe = recipe_of(_laid_over(settings, {}, steps, fit_steps))
    key = sets.key({**recipe, "seed": settings.seed, "over": chosen, "steps": [steps, fit_steps], "aside": ASIDE})
    (sets.root / STUDIES).parent.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{sets.root.resolve() / STUDIES}"
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=f"search-{key}",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
        )
    except DatabaseError as problem:
        if isinstance(problem, OperationalError):  # busy, or a full disk
            raise
        why, next_step = f"{sets.root / STUDIES} is no database", "Move it away, and begin anew: what earlier searches tried stands in MLflow."
        raise DataError("The studies of earlier searches cannot be read. Nothing was tried.", why=why, next_step=next_step) from problem
    if not study.trials:
        _tell_others(storage, chosen)
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=(settings.seed + len(study.trials)) % 2**32)
    waiting = [_wanted(trial) for trial in study.get_trials(states=(TrialState.WAITING,))]
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if _wanted(trial) not in waiting:
            study.enqueue_trial(_wanted(trial))
        study.tell(trial.number, state=TrialState.FAIL)  # only then: killed in between, it is found again
    mine = {name: _value(settings, name) for name in chosen}
    if all(_wanted(trial) != mine for trial in study.get_trials() if trial.state != TrialState.FAIL):
        study.enqueue_trial(mine)
    return study


def _tell_others(storage: str, chosen: list[str]) -> None:
    """Say where earlier studies varied the same: who meant to go on with one of them waits a night for what is there already."""
    import optuna

    for name in optuna.get_all_study_names(storage):
        trials = _ended(optuna.load_study(study_name=name, storage=storage))
        if trials and trials[0].params.keys() == set(chosen):
            told = "A new study begins: sets, steps, a setting that a training reads or its code are others than in the %d finished trials of %s, which stay."
            LOG.warning(told, len(trials), name)


def _wanted(trial: "FrozenTrial") -> dict[str, float]:
    """The values a trial has or was to have: one that was killed as it began has not been given all of them."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _value(settings: Settings, name: str) -> float:
    return float(_setting(settings, name))


def _setting(settings: Settings, name: str) -> Any:
    block, _, key = name.partition(".")
    return getattr(getattr(settings, block), key)


def lacking(settings: Settings, has_champion: bool) -> list[str]:
    """What a cycle would train with by these settings, and no trial has; each in words, with the setting that asks for it."""
    train = settings.train
    asked = {
        "attacks during training (train.adversarial_steps)": train.adversarial_steps and train.adversarial_eps and train.adversarial_fraction,
        "hardened clips (budget.hardened_clips)": settings.budget.hardened_clips,
        "distillation (train.distillation)": has_champion and train.distillation,
        "the champion's weights": has_champion,
    }
    return [name for name, wanted in asked.items() if wanted]


def _laid_over(settings: Settings, values: Mapping[str, float], steps: int, fit_steps: int) -> Settings:
    """The settings with the trial's values and budget, checked like any other."""
    raw = settings.model_dump(by_alias=True)
    for name, value in values.items():
        block, _, key = name.partition(".")
        raw[block][key] = value
    raw["pretrain"] |= {"steps": steps, "validate_every": max(1, steps // LOOKS), "patience": LOOKS + 1}
    raw["train"] |= {"steps": fit_steps, "validate_every": max(1, fit_steps // LOOKS), "patience": LOOKS + 1, **ASIDE}
    return Settings.model_validate(raw)


def _try(sets: Sets, settings: Settings, study: "Study", trial: "Trial", tell: Tell) -> None:
    """Train and measure one trial, or give it up on the way."""
    import optuna
    from optuna.trial import TrialState

    from model.data import ClipDataset

    def looked(row: Mapping[str, Any]) -> None:
        if row.get("val_auc") is not None:
            trial.report(float(row["val_auc"]), int(row["step"]))
            if trial.should_prune():
                raise optuna.TrialPruned

    own = sets.root / CHECKPOINTS / study.study_name  # beside those of a cycle that may train meanwhile
    try:
        network, _ = train_anew(sets, settings, settings.seed, tell, validate=True, looked=looked, folder=own)
    except (optuna.TrialPruned, Diverged) as problem:  # a rate too high for these sets diverges each time it is tried
        if isinstance(problem, Diverged):
            trial.set_user_attr("gave_up", problem.why)
        study.tell(trial, state=TrialState.PRUNED)
        shutil.rmtree(own, ignore_errors=True)
        return
    shutil.rmtree(own, ignore_errors=True)  # empty by now
    found = measure(network, ClipDataset(sets.root, sets.validation, settings.faces.size_px))
    trial.set_user_attr("accuracy", found["accuracy"])
    trial.set_user_attr("videos", [found["n_real"], found["n_fake"]])
    study.tell(trial, found["auc"])


def _ended(study: "Study") -> "list[FrozenTrial]":
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


class _Runs:
    """The trials as child runs of one MLflow run a study."""

    def __init__(self, root: Path, settings: Settings, study: str) -> None:
        self.root, self.settings, self.study = root, settings, study
        self.experiment = prepare(root, settings)
        with open_registry(root, settings) as client:
            found = client.search_runs([self.experiment], f"tags.{SEARCH_TAG} = '{study}' and tags.trial = 'all'", max_results=1)
            parent = found[0] if found else client.create_run(self.experiment, tags={SEARCH_TAG: study, "trial": "all"}, run_name=study)
            self.parent = parent.info.run_id
            client.set_terminated(self.parent)

    def log(self, ended: "Sequence[FrozenTrial]") -> None:
        """Write those of the trials that no finished run has, each under its number among them, as `report` counts; what a kill broke off is written anew."""
        with open_registry(self.root, self.settings) as client:
            mine = f"tags.{SEARCH_TAG} = '{self.study}' and tags.`mlflow.parentRunId` = '{self.parent}'"
            runs = client.search_runs([self.experiment], mine, max_results=MOST)
            known = {run.data.tags["trial"] for run in runs if run.info.status == "FINISHED"}
            for run in runs:
                if run.info.status != "FINISHED":
                    client.delete_run(run.info.run_id)
            for number, trial in enumerate(ended):
                if str(number) not in known:
                    self._write(client, number, trial)

    def _write(self, client: "MlflowClient", number: int, trial: "FrozenTrial") -> None:
        tags = {SEARCH_TAG: self.study, "trial": str(number), "mlflow.parentRunId": self.parent, "state": trial.state.name.lower()}
        run = client.create_run(self.experiment, tags=tags, run_name=f"{self.study} trial {number}").info.run_id
        for name, value in trial.params.items():
            client.log_param(run, name, value)
        for step, value in trial.intermediate_values.items():
            client.log_metric(run, "val_auc", value, step=step)
        if trial.value is not None:
            client.log_metric(run, "auc", trial.value)
        client.set_terminated(run)


def report(study: "Study", settings: Settings, has_champion: bool) -> dict[str, Any]:
    """{study, trials: [{trial, state, auc, settings, videos, diverged: how, or None}], first, best: the same rows or None,
    changes: {block: {setting: value}} of the best, lacks: what `lacking` says}.

    Trials are numbered by their ends, so that 0 is params.yaml's also where its first try was broken off.
    """
    ended = _ended(study)  # what was broken off was tried again
    rows = [
        {"trial": number, "state": one.state.name.lower(), "auc": one.value, "settings": dict(one.params)}
        | {"videos": one.user_attrs.get("videos"), "diverged": one.user_attrs.get("gave_up")}
        for number, one in enumerate(ended)
    ]
    complete = [row for row in rows if row["state"] == "complete"]
    best = max(complete, key=lambda row: (row["auc"], -row["trial"]), default=None)
    changes: dict[str, dict[str, float]] = {}
    for name, value in (best or {"settings": {}})["settings"].items():
        if abs(value - _value(settings, name)) > 1e-12:
            block, _, key = name.partition(".")
            changes.setdefault(block, {})[key] = float(f"{value:.3g}")
    first = rows[0] if rows else None
    return {"study": study.study_name, "trials": rows, "first": first, "best": best, "changes": changes, "lacks": lacking(settings, has_champion)}
