"""Sections of the other actions: evaluate, inference, export, gen_trt_engine, quantize, and W&B (names follow TAO's spec)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from search_spaces.spec.keys import Acts, key

RUNNING, INERT = Acts.RUNNING, Acts.INERT
FROM_SPLIT = "the batch size of the split's section is taken"
FROM_FILE = "the shape is read from the model file"
ON_CPU = "the graph is always traced on the CPU, as FP16 engines need it"
RUNTIMES = ("auto", "compiled", "bf16", "cpu", "cuda", "tensorrt")
RUNTIME = "how the model file runs; docs/deploy.md says which of them suits which kind of file"
ONE_GPU = "one device measures, so that no sample counts twice"
NO_WANDB = "runs are tracked in MLflow"


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Metrics of a checkpoint, an exported file or an engine on the test lists."""

    num_gpus: int = key(1, "GPUs", low=1, acts=INERT, why=ONE_GPU)
    gpu_ids: tuple[int, ...] = key((0,), "numbers of the GPUs", low=0, acts=INERT, why=ONE_GPU)
    num_nodes: int = key(1, "machines", low=1, acts=INERT, why=ONE_GPU)
    checkpoint: str | None = key(None, "weights, ONNX file or OpenVINO .xml to measure", acts=RUNNING)
    runtime: str = key("auto", RUNTIME, options=RUNTIMES, acts=RUNNING)
    trt_engine: str | None = key(None, "TensorRT engine to measure", acts=RUNNING)
    results_dir: str | None = key(None, "output folder; default is results_dir/evaluate", acts=RUNNING)
    batch_size: int = key(-1, "batch size", low=-1, acts=INERT, why=FROM_SPLIT)
    input_width: int | None = key(None, "width of the network's input", low=1, unit="px", acts=INERT, why=FROM_FILE)
    input_height: int | None = key(None, "height of the network's input", low=1, unit="px", acts=INERT, why=FROM_FILE)


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Pictures (and PFM files) of a checkpoint, an exported file or an engine on the infer lists."""

    num_gpus: int = key(1, "GPUs", low=1, acts=INERT, why=ONE_GPU)
    gpu_ids: tuple[int, ...] = key((0,), "numbers of the GPUs", low=0, acts=INERT, why=ONE_GPU)
    num_nodes: int = key(1, "machines", low=1, acts=INERT, why=ONE_GPU)
    checkpoint: str | None = key(None, "weights, ONNX file or OpenVINO .xml to run", acts=RUNNING)
    runtime: str = key("auto", RUNTIME, options=RUNTIMES, acts=RUNNING)
    trt_engine: str | None = key(None, "TensorRT engine to run", acts=RUNNING)
    results_dir: str | None = key(None, "output folder; default is results_dir/inference", acts=RUNNING)
    input_dir: str | None = key(None, "folder of images (stereo: of left and right views) to run instead of infer lists", acts=RUNNING)
    batch_size: int = key(-1, "batch size", low=-1, acts=INERT, why=FROM_SPLIT)
    conf_threshold: float = key(0.5, "confidence threshold", low=0.0, high=1.0, acts=INERT, why="these networks give no confidence")
    input_width: int | None = key(None, "width of the network's input", low=1, unit="px", acts=INERT, why=FROM_FILE)
    input_height: int | None = key(None, "height of the network's input", low=1, unit="px", acts=INERT, why=FROM_FILE)
    save_raw_pfm: bool = key(False, "write raw predictions as PFM; evaluate does so too", acts=RUNNING)
    save_npy: bool = key(False, "write raw predictions as NumPy arrays; evaluate does so too", acts=RUNNING)
    save_ply: bool = key(False, "write coloured point clouds in metres; needs dataset.focal_x, in stereo dataset.baseline", acts=RUNNING)
    ply_max_depth: float | None = key(
        None, "farthest point of a cloud; null: where a disparity falls below 1 px; in mono, no bound", low=0.0, unit="m", acts=RUNNING
    )


@dataclass(frozen=True, kw_only=True)
class Export:
    """ONNX file of a checkpoint at one height and width."""

    results_dir: str | None = key(None, "output folder; default is results_dir/export", acts=RUNNING)
    gpu_id: int = key(0, "GPU to trace on", low=0, acts=INERT, why=ON_CPU)
    checkpoint: str | None = key(None, "weights to export", acts=RUNNING)
    onnx_file: str | None = key(None, "file to write; default is the checkpoint's name with .onnx", acts=RUNNING)
    overwrite: bool = key(False, "replace an existing file", acts=RUNNING)
    on_cpu: bool = key(False, "trace on the CPU", acts=INERT, why=ON_CPU)
    input_channel: int = key(3, "image channels; the networks take 3, and an export with 1 is refused", options=(1, 3), acts=RUNNING)
    input_width: int = key(960, "width of the graph's input", low=14, unit="px", acts=RUNNING)
    input_height: int = key(544, "height of the graph's input", low=14, unit="px", acts=RUNNING)
    opset_version: int = key(17, "ONNX operator set", low=16, high=23, acts=RUNNING)
    batch_size: int | None = key(-1, "batch size of the graph; -1 or null: any", low=-1, acts=RUNNING)
    dynamic_hw: bool = key(
        False, "leave height and width free", acts=INERT, why="the graph has one height and width: input_height, input_width"
    )
    verbose: bool = key(False, "talk while tracing", acts=INERT, why="the export says what it did in its report")
    format: str = key(
        "onnx", "onnx; openvino: also an .xml for CPUs beside it; TAO's xdl is refused", options=("onnx", "openvino", "xdl"), acts=RUNNING
    )
    parity_samples: int = key(
        4, "images on which the file is held against the checkpoint, as many as a minute allows; 0: no check", low=0, acts=RUNNING
    )
    valid_iters: int | None = key(22, "refinement steps unrolled into a stereo graph; null: model.valid_iters", low=1, acts=RUNNING)


@dataclass(frozen=True, kw_only=True)
class TensorRT:
    """Engine builder settings."""

    # TAO's default of 1024 is read as GiB by its own builder; 4 is what its deploy templates use
    workspace_size: int = key(4, "builder memory; 0: what the GPU has", low=0, unit="GiB", acts=RUNNING)
    min_batch_size: int = key(1, "smallest batch of the profile", low=1, acts=RUNNING)
    opt_batch_size: int = key(1, "usual batch of the profile", low=1, acts=RUNNING)
    max_batch_size: int = key(1, "largest batch of the profile", low=1, acts=RUNNING)
    layers_precision: tuple[str, ...] = key((), "pattern:precision pairs over the graph's node names; later ones win", acts=RUNNING)
    data_type: str | None = key(
        None,
        "arithmetic of the engine; null: FP32 for stereo, BF16 for mono where the GPU has it, INT8 for a graph with Q/DQ nodes",
        options=("FP32", "FP16", "BF16", "INT8"),
        acts=RUNNING,
    )


@dataclass(frozen=True, kw_only=True)
class GenTrtEngine:
    """TensorRT engine of an ONNX file."""

    results_dir: str | None = key(None, "output folder; default is results_dir/gen_trt_engine", acts=RUNNING)
    gpu_id: int = key(0, "GPU to build on", low=0, acts=RUNNING)
    onnx_file: str | None = key(None, "graph to build from", acts=RUNNING)
    trt_engine: str | None = key(None, "file to write", acts=RUNNING)
    timing_cache: str | None = key(None, "file of layer timings", acts=RUNNING)
    batch_size: int = key(-1, "batch size", low=-1, acts=INERT, why="the batch of the ONNX file and the profile decide")
    verbose: bool = key(False, "talk while building", acts=RUNNING)
    graph_only: bool = key(
        False, "write the strongly typed ONNX graph that the engine would be built from, and no engine: needs no GPU", acts=RUNNING
    )
    tensorrt: TensorRT = field(default_factory=TensorRT)


@dataclass(frozen=True, kw_only=True)
class Quantize:
    """Post-training quantisation."""

    backend: str = key(
        "torchao",
        "library: torchao packs the weights of a checkpoint, onnxruntime quantises an ONNX file; modelopt is refused",
        options=("torchao", "onnxruntime", "modelopt.pytorch", "modelopt.onnx"),
        acts=RUNNING,
    )
    mode: str = key("weight_only_ptq", "weights alone, or activations as well", options=("weight_only_ptq", "static_ptq"), acts=RUNNING)
    algorithm: str = key(
        "minmax",
        "how ranges are found: minmax, max (symmetric), entropy, percentile; the others are refused",
        options=("minmax", "max", "entropy", "percentile", "awq_clip", "awq_lite", "awq_full", "rtn_dq"),
        acts=RUNNING,
    )
    layers: tuple[Mapping[str, object], ...] = key(
        (), "rules by name or kind, later ones win; []: int8 for every Linear (torchao), Conv, Gemm and MatMul (onnxruntime)", acts=RUNNING
    )
    skip_names: tuple[str, ...] = key((), "patterns of names to leave alone", acts=RUNNING)
    model_path: str | None = key(None, "checkpoint (torchao) or ONNX file (onnxruntime) to quantise", acts=RUNNING)
    results_dir: str | None = key(None, "output folder; default is results_dir/quantize", acts=RUNNING)
    overwrite: bool = key(False, "replace an existing quantised model", acts=RUNNING)
    # 0.05: an epe of 1.00 px may become 1.05 px
    max_metric_drop: float = key(
        0.05,
        "how much worse the model may get: after <= before x (1 + this), in epe (stereo) or abs_rel (mono) on the validation list",
        low=0.0,
        acts=RUNNING,
    )
    calibration_images: int = key(
        32, "images (pairs) to calibrate on, evenly spread over those of dataset.quant_calibration_dataset", low=1, acts=RUNNING
    )
    backend_kwargs: Mapping[str, object] = key(
        {}, "further arguments: onnxruntime takes per_channel, symmetric, reduce_range, percentile", acts=RUNNING
    )
    device: str = key("cuda", "where to measure: cuda (the CPU where there is no GPU), cuda:N or cpu; trt is refused", acts=RUNNING)


@dataclass(frozen=True, kw_only=True)
class Wandb:
    """Weights & Biases settings of TAO specs: accepted, not used."""

    # TAO logs by default; nothing does here, so that only a spec that asks for it is answered
    enable: bool = key(False, "log to W&B", acts=INERT, why=NO_WANDB)
    project: str = key("TAO Toolkit", "project", acts=INERT, why=NO_WANDB)
    entity: str = key("", "entity", acts=INERT, why=NO_WANDB)
    group: str = key("", "group", acts=INERT, why=NO_WANDB)
    run_id: str = key("", "run", acts=INERT, why=NO_WANDB)
    tags: tuple[str, ...] = key(("tao-toolkit",), "tags", acts=INERT, why=NO_WANDB)
    reinit: bool = key(False, "start anew in one process", acts=INERT, why=NO_WANDB)
    sync_tensorboard: bool = key(False, "copy TensorBoard", acts=INERT, why=NO_WANDB)
    save_code: bool = key(False, "upload code", acts=INERT, why=NO_WANDB)
    name: str = key("TAO Toolkit Training", "run name", acts=INERT, why=NO_WANDB)
