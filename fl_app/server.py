"""The server's side: open the run folder, go through the tasks, say what came out."""

import logging
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid

from fl_app.data.images import DatasetInfo
from fl_app.data.sources import CommonTest, stated_info
from fl_app.errors import FederationError, FlAppError, RunFolderError
from fl_app.evaluation import Judgement, drawing_of, judge_generated
from fl_app.files import check_manifest, recover_folder
from fl_app.logs import log_to, show_log
from fl_app.messages.arrays import array_record, to_numpy
from fl_app.options.federation import AdmissionOptions, FederationOptions
from fl_app.options.run import PassPlan, RunConfig
from fl_app.passes import build_pass
from fl_app.quality.features import check_network_file
from fl_app.runs.audit import QUARANTINED, examine, note_quarantine
from fl_app.runs.cards import write_cards
from fl_app.runs.comparison import write_comparison
from fl_app.runs.exchanges import ExchangeRecorder
from fl_app.runs.folder import RunFolder
from fl_app.runs.history import objection
from fl_app.runs.opening import agreed_info, note_agreement, open_run
from fl_app.runs.recorder import TaskRun
from fl_app.runs.report.live import LiveReport
from fl_app.runs.run_json import held_classes, read_document
from fl_app.runs.status import Status
from fl_app.runs.tracking import check_tracking, open_tracker
from fl_app.strategies.admission import Admission
from fl_app.strategies.agreement import agree
from fl_app.strategies.attendance import Attendance, OneForAll, wait_for_nodes
from fl_app.strategies.resilient import Resilient
from fl_app.strategies.roster import Roster
from fl_app.strategies.setup import Setup, Unwatched
from fl_app.strategies.transport import PackedWire
from fl_app.tasks import check_tasks, initial_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """A run whose folder is open and whose images are agreed.

    Attributes:
        grid: Flower's connection to the nodes.
        config: every option.
        info: classes, channels and size of the images.
        folder: of the run.
        status: what is told of it.
        common_test: the test set that simulated nodes share.
        report: kept fresh while the run goes on.
    """

    grid: Grid
    config: RunConfig
    info: DatasetInfo
    folder: RunFolder
    status: Status
    common_test: CommonTest
    report: LiveReport


def run(grid: Grid, context: Context) -> None:
    """Run a federation from the first round to the report.

    Raises:
        FlAppError: the run could not start or did not end well; status.json says why.
    """
    show_log()
    config = RunConfig.from_flat(context.run_config)
    config.import_plugins()
    check_tracking(config.tracking)
    info = stated_info(config.data)
    if info is not None:
        check_tasks(config, info)
    check_network_file(config)
    folder = open_run(config, context.run_id)
    log.info("Run folder: %s", folder.path)
    with log_to(folder.path / "run.log"):
        report = LiveReport(folder.path)
        try:
            _go_through(grid, config, info, folder, report)
        finally:
            report.write()
            folder.unlock()
            log.info("Run folder: %s", folder.path)


def _go_through(grid: Grid, config: RunConfig, info: DatasetInfo | None, folder: RunFolder, report: LiveReport) -> None:
    """Go through the tasks and baselines, and write down how it ended."""
    status = Status(folder)
    try:
        status.set("starting")
        if info is None:
            info = agree_on_images(grid, config, folder, status)
        opened = Opened(grid, config, info, folder, status, CommonTest.of_run(config), report)
        for plan in config.passes():
            run_pass(plan, opened)
        sites = Attendance(_roster(opened), config.federation, Unwatched())
        judge_generated(grid, Judgement(config, info, folder, status, sites))
        if "classification" in config.tasks:
            write_comparison(folder, config)
        write_cards(folder.path)
        status.end()
        shutil.rmtree(folder.path / "nodes", ignore_errors=True)  # a simulation's optimiser states, of no use any more
    except BaseException as error:
        _fail(status, folder.path, error)
        raise


def agree_on_images(grid: Grid, config: RunConfig, folder: RunFolder, status: Status) -> DatasetInfo:
    """Take classes and channels from the hospitals, and write them down; a resumed run keeps what it began with.

    Raises:
        FederationError: too few nodes connect, or they disagree.
    """
    federation, known = config.federation, agreed_info(folder)
    if known is not None:
        check_tasks(config, known)
        return known
    needed = federation.nodes_at_start

    def show(connected: int) -> None:
        status.set("waiting", f"{connected} of {needed} nodes are connected")

    wait_for_nodes(grid, federation, needed, show)
    deadline = min(federation.round_deadline_seconds, federation.wait_seconds)
    info = agree(grid, deadline, config.data, federation.bound)
    check_tasks(config, info)
    note_agreement(folder, info)
    return info


def bound_names(config: RunConfig) -> dict[int, str] | None:
    """Return the names that are bound to nodes, by node id; None if a simulation takes them from folders."""
    return config.federation.bound or (None if config.partition.scheme == "sites" else {})


def run_pass(plan: PassPlan, run: Opened) -> None:
    """Train a task or a baseline; a baseline that fails costs its row in the table, and not the run.

    Raises:
        FederationError: a task failed.
    """
    try:
        run_task(plan, run)
    except FederationError as error:
        if not plan.baseline:
            raise
        log.error("The baseline %s failed: %s", plan.name, error)
        run.status.blemish(f"the baseline {plan.name} failed: {error}")


def run_task(plan: PassPlan, run: Opened) -> None:
    """Train one task or baseline, measure the result at the nodes, and export it.

    Raises:
        FederationError: nothing was learned, or the federation could not go on.
    """
    config, folder, status, roster = run.config, run.folder, run.status, _roster(run)
    name, run_pass = plan.name, build_pass(plan, config, run.info)
    task = run_pass.task
    tracker = open_tracker(config.tracking, folder.path / "tensorboard" / name)
    task_run = TaskRun(run_pass, folder, status, roster, run.report, tracker)
    checkpoint = folder.last_checkpoint(name)
    first_round = checkpoint.round_number + 1 if checkpoint else 1
    exchanges = ExchangeRecorder(name, run.info.class_names, folder, status, first_round)
    options, admission = _options_for(plan, config)
    setup = Setup(
        task=name,
        seed=config.seed,
        wire=PackedWire(name, folder.path.name, str(folder.path)),
        sites=(OneForAll if plan.is_pooled else Attendance)(roster, options, task_run),
        admission=Admission(admission, task.options.epochs),
        observer=task_run,
        blank_sums=task.blank_sums(),
        fault_of=task.fault_of,
        min_replies=options.quorum,
        nodes_per_round=options.nodes_per_round,
        max_failed_rounds=options.max_failed_rounds,
        run_folder=str(folder.path),
        begins=not roster.frozen,
        exchanged=exchanges.done,
        drawing=drawing_of(plan, folder, config, status),
        on_exchange=exchanges.keep,
    )
    strategy = run_pass.strategy(setup)
    weights = to_numpy(initial_weights(task, config.seed))
    earlier = task_run.resume(checkpoint, weights)
    if earlier is not None:
        strategy.restore(earlier)
        weights = earlier.models["raw"]
    if first_round > run_pass.num_rounds and _is_finished(plan, folder):
        log.info("%s is finished already", name)
        status.recall(name)
        note_quarantine(folder.task(name), status)
        return
    try:
        strategy.start(run.grid, array_record(weights), run_pass.num_rounds, options.round_deadline_seconds)
    except BaseException:
        task_run.save_last_round()
        raise
    finally:
        tracker.close()
    if setup.drawing is not None:
        status.note(name, f"drawing of images for {name}", setup.drawing.outcomes)
    finish_task(run.grid, strategy, task_run, status)


def finish_task(grid: Grid, strategy: Resilient, task_run: TaskRun, status: Status) -> None:
    """Measure the final models at the nodes, export the better one, and make sure that something was learned.

    Raises:
        FederationError: nothing was learned.
    """
    run_pass = task_run.run_pass
    initial = to_numpy(initial_weights(run_pass.task, run_pass.config.seed))
    parts, outcomes = strategy.measure(grid, {**task_run.models, "initial": initial})
    status.note(run_pass.name, f"final measurement of {run_pass.name}", outcomes)
    chosen = task_run.finish(parts)
    if run_pass.plan.is_alone:
        return  # the mean of networks that were trained apart is nothing to judge or to export
    weights, holds_out = task_run.models[chosen], task_run.roster.hold_out()
    improved = partial(run_pass.improved, strategy)
    reason = objection(run_pass.name, improved, chosen, weights, parts, holds_out, task_run.history)
    if reason is not None:
        raise FederationError(f"{reason} Look at the nodes' outcomes in metrics.jsonl.")
    held = held_classes(task_run.folder.path)
    number, name, weights = task_run.exported(chosen)
    audit = examine(task_run, name, number, partial(run_pass.ask_membership, strategy, grid, weights))
    write = partial(run_pass.export, strategy, weights, held)
    task_run.export(number, name, write, audit.quarantine if audit else None)
    note_quarantine(task_run.folder.task(run_pass.name), status)


def _roster(run: Opened) -> Roster:
    """Return the sites of a run: those that are known, and nodes that are yet to be asked."""
    federation, known = run.config.federation, read_document(run.folder.path).nodes
    deadline = min(federation.round_deadline_seconds, federation.wait_seconds)
    return Roster(run.info, deadline, known, run.common_test.counts, bound_names(run.config))


def _options_for(plan: PassPlan, config: RunConfig) -> tuple[FederationOptions, AdmissionOptions]:
    """Return the options of a pass: a baseline asks every node, and its updates cannot be compared with one another."""
    federation, admission = config.federation, config.admission
    if plan.is_alone or plan.is_pooled:
        federation = federation.model_copy(update={"nodes_per_round": 0})
        admission = admission.model_copy(update={"max_update_norm_ratio": 0.0, "max_share": 0.0})
    if plan.is_pooled:
        federation = federation.model_copy(update={"min_nodes": 1, "min_replies": 1})
        admission = admission.model_copy(update={"max_weight": 0.0})
    return federation, admission


def _is_finished(plan: PassPlan, folder: RunFolder) -> bool:
    """Tell whether a pass left everything that it leaves: its last step is the export, which must be whole."""
    result = folder.task(plan.name) / "prototypes" / f"round-{plan.options.num_rounds:04d}.json"
    if plan.is_alone:
        return result.exists()
    models = [folder.task(plan.name) / one for one in ("model", QUARANTINED)]
    for model in models:
        recover_folder(model)
    exported = [model for model in models if model.is_dir()]
    if not exported:
        return False
    try:
        check_manifest(exported[0])
    except RunFolderError as error:
        log.warning("%s It is exported anew", error)
        return False
    return True


def _fail(status: Status, folder: Path, error: BaseException) -> None:
    """Write down why the run failed; where even that cannot be written, the log has to do."""
    if isinstance(error, SystemExit | KeyboardInterrupt):  # as `flwr stop` ends it
        reason = f'stopped; it can be resumed with resume = "{folder}"'
        log.warning("The run is %s", reason)
    else:
        is_ours = isinstance(error, FlAppError)
        reason = str(error) if is_ours else f"{type(error).__name__}: {error}"
        log.error("The run failed: %s", reason, exc_info=None if is_ours else error)
    try:
        status.set("failed", reason)
    except RunFolderError as problem:
        log.error("%s", problem)
