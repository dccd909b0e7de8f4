"""Deliberate faults, and for each the test that must see it: `python tests/mutants.py [NAME ...]`.

A mutant is one replacement in one file. Its test passes without it, and fails by an assertion of
its own with it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE, SECONDS = 2, 600  # processes, and what one may take
QUIET = ["-q", "-x", "-p", "no:cacheprovider", "--basetemp=build/basetemp"]


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    test: str  # its node, below tests/


# In each file: a name, what stands there, what takes its place, the test that must see it.
FAULTS = {
    "mtl_helpers/batching.py": [
        ("length sorting dropped", 'np.argsort(lengths[chunk], kind="stable")',
         "np.arange(len(chunk))",
         "test_batching.py::test_grouping_by_length_leaves_little_padding_and_mixes_neighbours"),
        ("tasks in the wrong order", "for task, stream in streams.items():\n            plan",
         "for task, stream in reversed(streams.items()):\n            plan",
         "test_batching.py::test_every_schedule_uses_what_it_promises"),
        ("a turn for the smallest task only", "_in_turn(streams, max(counts",
         "_in_turn(streams, min(counts",
         "test_batching.py::test_a_smaller_task_that_begins_again_is_shuffled_anew"),
        ("temperature upside down", "len(found) ** (1 / temperature)",
         "len(found) ** temperature", "test_batching.py::test_temperature_by_hand[2-expected1]"),
        ("every pass in the same order", "while True:\n        order = random.permutation(rows)",
         "order = random.permutation(rows)\n    while True:",
         "test_batching.py::test_a_smaller_task_that_begins_again_is_shuffled_anew"),
        ("every epoch the same", "default_rng([seed, epoch])", "default_rng([seed, 0])",
         "test_batching.py::test_a_plan_is_a_function_of_seed_and_epoch[joint]"),
        ("the short batch lost", "if whole < len(order):", "if whole == 0:",
         "test_batching.py::test_every_schedule_uses_what_it_promises"),
        ("missing labels counted in a batch", "int(is_known(labels[task][batch.rows]).sum())",
         "len(batch.rows)",
         "test_batching.py::test_tokens_and_labels_of_a_batch_are_those_of_its_rows"),
    ],
    "mtl_helpers/processes.py": [
        ("loss scale for several processes",
         "return self.number if len(rows) >= self.number else 1", "return 1",
         "test_batching.py::test_parts_of_a_batch_are_even_and_a_very_small_one_is_shared"),
        ("a part of a batch off by one", "rows[self.rank :: self.number]",
         "rows[self.rank + 1 :: self.number]",
         "test_batching.py::test_parts_of_a_batch_are_even_and_a_very_small_one_is_shared"),
        ("losses of several processes not shared out", "(parts * share / self.number)", "parts",
         "test_training.py::test_two_processes_train_the_weights_of_one"),
    ],
    "mtl_helpers/checkpoint.py": [
        ("rename before the sync",
         '        for path in [*new.rglob("*"), new]:\n'
         "            flush(path)\n"
         "        if target.exists():\n"
         "            target.rename(old)\n"
         "        new.rename(target)\n",
         "        if target.exists():\n"
         "            target.rename(old)\n"
         "        new.rename(target)\n"
         '        for path in [*target.rglob("*"), target]:\n'
         "            flush(path)\n",
         "test_checkpoint.py::test_all_is_flushed_before_it_gets_its_name"),
        ("checkpoint not verified", "_read(new, step)  # what", "pass  # what",
         "test_checkpoint.py::test_a_disk_that_lies_or_is_full_is_named"),
        ("sums not compared", "if _sums(files) != (path / SUMS).read_bytes():", "if not files:",
         "test_checkpoint.py::"
         "test_changed_bytes_and_shorter_or_missing_files_are_noticed[SHA256SUMS]"),
        ("an older checkpoint removed too early",
         "    try:\n        with whole_folder(target) as new:",
         "    for _, path in _checkpoints(target.parent)[keep - 1:]:\n"
         "        shutil.rmtree(path)\n"
         "    try:\n"
         "        with whole_folder(target) as new:",
         "test_checkpoint.py::test_a_disk_that_lies_or_is_full_is_named"),
        ("one checkpoint too few kept", "_checkpoints(target.parent)[keep:]",
         "_checkpoints(target.parent)[keep - 1:]",
         "test_checkpoint.py::test_the_greatest_numbers_stay_and_later_steps_are_left_alone"),
        ("set-aside checkpoint not found", 'r"\\.?step-([0-9]{8,})(?:\\.set-aside)?"',
         'r"step-([0-9]{8,})"',
         "test_checkpoint.py::test_a_kill_before_any_change_loses_nothing[1]"),
        ("set-aside folder not found",
         "return old if old.exists() and not target.exists() else target", "return target",
         "test_checkpoint.py::test_a_fault_anywhere_loses_nothing[Path-rename-error0-True]"),
        ("what killed saves left stays", "tidy(left.with_name", "str(left.with_name",
         "test_checkpoint.py::"
         "test_a_broken_step_is_replaced_and_what_killed_saves_have_left_is_removed"),
    ],
    "mtl_helpers/config.py": [
        ("select keeps the last instead of the best",
         "if score is not None and score > self.score:", "if score is not None:",
         "test_training.py::test_the_best_weights_by_validation_are_kept[genre-2-scores1]"),
        ("an equal score is better", "score > self.score:", "score >= self.score:",
         "test_training.py::test_a_better_score_ends_the_wait[settings1-script1-5-15]"),
        ("best weights not copied", "parameter.detach().clone()", "parameter.detach()",
         "test_training.py::test_the_best_weights_by_validation_are_kept[genre-2-scores1]"),
        ("patience off by one", "self.waited >= self.patience", "self.waited > self.patience",
         "test_training.py::test_patience_stops_at_once[None-1-10-5]"),
        ("an undefined r counts as 0", "nan=-1.0", "nan=0.0",
         "test_training.py::test_the_best_weights_by_validation_are_kept[valence-1-scores3]"),
        ("epoch means by step",
         'counts.update(row["labels"])\n            for task, number in row["labels"].items():',
         'counts.update(list(row["labels"]))\n'
         '            for task, number in dict.fromkeys(row["labels"], 1).items():',
         "test_training.py::test_history_tells_what_was_realised"),
        ("resume with other labels accepted", "_digest(values.tolist())", "_digest(len(values))",
         "test_resume.py::test_other_data_or_another_model_is_refused_by_name"
         "[make_model-train0-validation0-train labels of genre]"),
        ("resume with another seed accepted", "MAY_CHANGE = (", 'MAY_CHANGE = ("seed", ',
         "test_resume.py::test_another_setting_is_refused_by_name[seed]"),
    ],
    "mtl_helpers/corpus.py": [
        ("corpus joined by order",
         'rated = {row[0]: row[3] for row in _table(tar, f"{stem}_anonDataRatings.txt")}',
         'names = [row[0] for row in _table(tar, f"{stem}_GroundTruth.txt")]\n'
         '            rows = _table(tar, f"{stem}_anonDataRatings.txt")\n'
         "            rated = {name: row[3] for name, row in zip(names, rows)}",
         "test_corpus.py::test_ratings_fit_the_sentences"),
        ("sentiment threshold", "(valence > 0.5)", "(valence >= 0.5)",
         "test_corpus.py::test_tasks_can_be_chosen_and_sentiment_is_valence_cut"),
        ("document ids of genres mixed", "f\"{GENRES[genre]} {name.split('_')[0]}\"",
         "name.split('_')[0]", "test_corpus.py::test_sentences_are_clean_and_documents_known"),
    ],
    "mtl_helpers/data.py": [
        ("select sorts", "np.arange(len(self))[list(indices)]",
         "np.sort(np.arange(len(self))[list(indices)])",
         "test_data.py::test_select_takes_rows_in_the_order_given[indices0]"),
        ("sentences are split instead of documents",
         'for key in (("text", _normalised(sentence)), ("group", group)):',
         'for key in (("text", _normalised(sentence)),):',
         "test_data.py::test_a_chain_of_documents_and_equal_texts_stays_together"),
        ("splits overlap", "np.flatnonzero(splits == split)", "np.flatnonzero(splits >= split)",
         "test_data.py::test_splits_are_a_partition_that_shares_no_text_and_no_document"),
        ("case-folding lost", "sentence.casefold()", "sentence.lower()",
         "test_data.py::"
         "test_the_guard_compares_every_pair_without_case_and_spaces_and_documents"),
        ("leaking text not seen", "sum(_normalised(sentence) in seen", "sum(sentence in seen",
         "test_data.py::"
         "test_the_guard_compares_every_pair_without_case_and_spaces_and_documents"),
        ("leaking document not seen", "if found or documents:", "if found:",
         "test_data.py::"
         "test_the_guard_compares_every_pair_without_case_and_spaces_and_documents"),
    ],
    "mtl_helpers/encoder.py": [
        ("mask off by one", "torch.from_numpy(mask.astype(np.int64))",
         "torch.from_numpy((mask & np.roll(mask, -1, axis=1)).astype(np.int64))",
         "test_batching.py::test_tokens_and_labels_of_a_batch_are_those_of_its_rows"),
        ("padding on the wrong side", "np.arange(lengths.max()) < lengths",
         "np.arange(lengths.max())[::-1] < lengths",
         "test_encoder.py::test_folders_of_the_library_and_ours_agree[bert-mean-True]"),
        ("CLS of left padding", "attention_mask.int().argmax(dim=1)",
         "attention_mask.int().argmax(dim=1) * 0",
         "test_encoder.py::test_pooling_ignores_padding_on_either_side[-90.0-cls]"),
        ("max pooling over padding", 'token_embeddings.masked_fill(padding, float("-inf"))',
         "token_embeddings.masked_fill(padding, 0.0)",
         "test_encoder.py::test_pooling_ignores_padding_on_either_side[-90.0-max]"),
        ("mean pooling over padding", "token_embeddings.masked_fill(padding, 0.0).sum(dim=1)",
         "token_embeddings.sum(dim=1)",
         "test_encoder.py::test_pooling_ignores_padding_on_either_side[-90.0-mean]"),
        ("normalisation before pooling", "pool(tokens, attention_mask, self.pooling)",
         "pool(nn.functional.normalize(tokens, dim=-1), attention_mask, self.pooling)",
         "test_encoder.py::test_folders_of_the_library_and_ours_agree[bert-mean-False]"),
        ("truncation silent", 'logger.warning(f"{cut}', 'logger.debug(f"{cut}',
         "test_encoder.py::test_shapes_of_none_one_and_many_and_one_log_line_of_what_is_cut"),
        ("weights of the model take the copy's dtype",
         "if dtype == next(self.parameters()).dtype:", "if dtype:",
         "test_encoder.py::"
         "test_encode_leaves_the_model_as_it_is_drops_nothing_out_and_sees_new_weights"),
        ("packed layers without bias", 'self.weight, self.bias, "none"',
         'self.weight, None, "none"',
         "test_encoder.py::"
         "test_the_packaged_model_agrees_with_the_library_in_any_batch[True-1e-06]"),
        ("dropout while encoding", ".eval().to(dtype)", ".train().to(dtype)",
         "test_model.py::test_predict_has_no_dropout_and_leaves_modes_and_gradients[asleep0]"),
        ("attention stays eager", "set_attn_implementation(own)",
         'set_attn_implementation("eager")',
         "test_training.py::test_surroundings_are_left_as_they_were[False]"),
        ("missing weights are random", "            if missing:\n", "            if not info:\n",
         "test_model_folders.py::test_what_a_folder_lacks_or_would_run_is_an_error[a layer]"),
        ("mean pooling where modules.json is lost", "        if [*folder.glob(",
         "        if paths[1:] and [*folder.glob(",
         "test_model_folders.py::test_what_a_folder_lacks_or_would_run_is_an_error[no modules]"),
        ("a folder's own code passed over", '{"auto_map", "peft_type"} &', '{"peft_type"} &',
         "test_model_folders.py::test_what_a_folder_lacks_or_would_run_is_an_error[code]"),
    ],
    "mtl_helpers/evaluation.py": [
        ("interval over sentences instead of documents", "if groups is None:  #",
         "if not None:  #",
         "test_evaluation.py::test_sentences_of_one_document_that_are_alike_widen_the_interval"),
        ("an absent class counts", "np.average(f1, axis=1, weights=seen > 0)", "f1.mean(axis=1)",
         "test_evaluation.py::test_every_score_is_that_of_scikit_learn"),
        ("only classes that are true count", "np.union1d(*pair)", "np.unique(pair[0])",
         "test_evaluation.py::"
         "test_a_class_that_is_only_predicted_or_only_true_counts_as_in_scikit_learn"),
        ("a 90 % interval", "[(1 - 0.95) / 2, (1 + 0.95) / 2]",
         "[(1 - 0.90) / 2, (1 + 0.90) / 2]",
         "test_evaluation.py::"
         "test_an_interval_covers_the_true_accuracy_about_as_often_as_it_says"),
    ],
    "experiments/calibration.py": [
        ("a wrong temperature", "np.log(rows) / temperature", "np.log(rows) * temperature",
         "test_calibration.py::test_a_temperature_of_one_changes_nothing_and_zeros_are_bounded"),
        ("an edge in the bin above", "confidence.round(12))",
         'confidence.round(12), side="right")',
         "test_calibration.py::test_a_small_example_of_calibration_worked_by_hand"),
    ],
    "mtl_helpers/model.py": [
        ("what can't be loaded replaces what can", "self.from_pretrained(new, types)",
         "len(types)",
         "test_model_folders.py::test_what_could_not_be_loaded_replaces_nothing[an adapter]"),
        ("dropout awake in a frozen part", "nn.Module.train(module, False)",
         "nn.Module.train(module, mode)",
         "test_freezing.py::test_train_mode_does_not_wake_the_dropout_of_what_is_frozen[bert]"),
        ("label order lost on loading", 'for task, entry in record["heads"].items():\n',
         'for task, entry in record["heads"].items():\n'
         '                entry["config"].get("labels", []).sort()\n',
         "test_model.py::"
         "test_saving_and_loading_change_nothing_and_sentence_transformers_opens_the_folder"),
        ("order of the tasks lost on saving", "indent=2, ensure_ascii=False",
         "indent=2, ensure_ascii=False, sort_keys=True",
         "test_model.py::"
         "test_saving_and_loading_change_nothing_and_sentence_transformers_opens_the_folder"),
        ("a model's sums not compared", "if _sha256(path / name) != digest:", "if not digest:",
         "test_model.py::test_each_missing_cut_or_altered_file_is_named_but_a_card"),
        ("others' files overwritten", "if others:", "if not folder:",
         "test_model.py::test_files_that_are_not_its_own_are_refused_and_left_alone"),
        ("predict leaves heads in eval mode", "copy.deepcopy(self.heads).eval()",
         "self.heads.eval()",
         "test_model.py::test_predict_has_no_dropout_and_leaves_modes_and_gradients[asleep0]"),
    ],
    "mtl_helpers/freezing.py": [
        ("an encoder in an unknown wrapper has the heads' rate",
         'if not plain.startswith(("encoder.", "heads.")):', "if not plain:",
         "test_model_folders.py::"
         "test_a_wrapped_model_has_the_same_groups_and_hash_or_is_refused[compile]"),
        ("freeze forgets what layers share", "and TOP not in name\n",
         'and "relative" not in name\n',
         "test_freezing.py::test_a_backbone_is_frozen_and_rated_layer_by_layer[mpnet]"),
        ("layer decay upside down", "layer_decay ** (layers - depth)", "layer_decay ** depth",
         "test_freezing.py::test_a_backbone_is_frozen_and_rated_layer_by_layer[bert]"),
        ("rate of heads for the encoder", "rate = encoder_lr *", "rate = head_lr *",
         "test_freezing.py::test_a_backbone_is_frozen_and_rated_layer_by_layer[bert]"),
        ("decay on biases", "if parameter.ndim > 1", "if parameter.ndim > 0",
         "test_freezing.py::test_a_backbone_is_frozen_and_rated_layer_by_layer[bert]"),
        ("stale cache", "if dtype != self.dtype or self._key(model, dtype) != self.key:",
         "if dtype != self.dtype:",
         "test_freezing.py::test_a_stale_cache_is_refused[a frozen weight-FrozenCache]"),
        ("cache does not know the length", "(encoder.max_length, encoder.pooling,",
         "(encoder.pooling,",
         "test_freezing.py::test_a_stale_cache_is_refused[the length-FrozenCache]"),
        ("cached rows in another order", "[self.rows[sentence] for sentence in sentences]",
         "sorted(self.rows[sentence] for sentence in sentences)",
         "test_freezing.py::"
         "test_a_cache_gives_embeddings_and_lengths_in_the_order_of_the_sentences"),
    ],
    "experiments/layer_cache.py": [
        ("mask of cached states off by one", "< lengths[:, None]", "<= lengths[:, None]",
         "test_freezing.py::"
         "test_losses_and_weights_are_those_without_a_cache[LayerCache-bert-parts3-joint]"),
    ],
    "mtl_helpers/heads.py": [
        ("missing labels counted in a loss", "count = (~missing).sum()",
         "count = torch.tensor(len(missing))", "test_heads.py::test_losses_by_hand"),
        ("losses of missing labels summed", "each.masked_fill(missing, 0).sum()", "each.sum()",
         "test_heads.py::test_losses_by_hand"),
        ("a mean by part of a batch instead of by example",
         "whole = count if batch_counts is None else torch.as_tensor(batch_counts[task])",
         "whole = count",
         "test_heads.py::test_gradients_add_up_over_tasks_and_over_the_parts_of_a_batch"),
        ("class 0 is missing", "else labels != -100", "else labels > 0",
         "test_heads.py::test_tensors_and_arrays_agree_on_what_is_missing[values0]"),
        ("uncertainty's half for regression", '"categorical" else 0.5', '"categorical" else 1.0',
         "test_heads.py::"
         "test_uncertainty_is_the_gaussian_likelihood_or_nearly_the_scaled_softmax[0.4]"),
        ("the variance of an absent task moves",
         "s / 2 * loss.count / loss.batch_count.clamp(min=1)", "s / 2",
         "test_heads.py::test_the_variance_of_a_task_that_is_absent_does_not_move"),
        ("weights by the order of the tasks",
         "self.weights[task] * loss.mean for task, loss in losses.items()",
         "w * loss.mean for w, loss in zip(self.weights.values(), losses.values())",
         "test_heads.py::test_static_weighting"),
        ("wrong label names", "[self.labels[i] for i in ids]", "[self.labels[-i] for i in ids]",
         "test_heads.py::test_decode_gives_names_ids_and_probabilities_or_values[dtype0]"),
        ("of equal classes the last", "ids = probabilities.argmax(axis=1)",
         "ids = probabilities.shape[1] - 1 - probabilities[:, ::-1].argmax(axis=1)",
         "test_heads.py::test_decode_gives_names_ids_and_probabilities_or_values[dtype0]"),
        ("label order lost in a head's configuration",
         'self.labels = self.config["labels"] = list(labels)',
         'self.labels, self.config["labels"] = list(labels), sorted(labels)',
         "test_heads.py::test_config_survives_json_and_builds_the_same_head[head1]"),
    ],
    "mtl_helpers/synthetic.py": [
        ("noise on the wrong side", "(1 - label_noise) * own + label_noise * (1 - own)",
         "label_noise * own + (1 - label_noise) * (1 - own)",
         "test_synthetic.py::"
         "test_best_accuracy_is_what_one_computes_by_hand[given_settings1-0.8-0.8]"),
        ("splits of synthetic sentences overlap", '"test": (4,)', '"test": (3,)',
         "test_synthetic.py::test_no_split_shares_a_sentence_with_another_for_any_seed"),
    ],
    "mtl_helpers/training.py": [
        ("clip after step",
         "norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm)\n"
         "                means = team.mean_losses(losses, share)\n"
         "                check_finite(step, means, norm)\n"
         "                optimizer.step()\n",
         "means = team.mean_losses(losses, share)\n"
         "                optimizer.step()\n"
         "                norm = nn.utils.clip_grad_norm_(parameters, config.clip_norm)\n"
         "                check_finite(step, means, norm)\n",
         "test_training.py::test_agrees_with_a_plain_loop[settings1-task_weights1-1e-12]"),
        ("warm-up off by one", "return (step + 1) / (warmup + 1)", "return step / warmup",
         "test_training.py::test_max_steps_ends_in_the_midst_of_an_epoch"),
        ("momentum for a resting head",
         "optimizer.step()\n                optimizer.zero_grad()",
         "optimizer.step()\n                optimizer.zero_grad(set_to_none=False)",
         "test_training.py::test_a_head_without_labels_in_the_batch_does_not_move"),
        ("no validation after the last step", "step % every == 0 or step == last",
         "step % every == 0", "test_training.py::test_max_steps_ends_in_the_midst_of_an_epoch"),
        ("validation of the training data", "evaluate(model, scored,",
         "evaluate(model, train,",
         "test_training.py::test_the_best_weights_by_validation_are_kept[genre-2-scores1]"),
        ("random state not put back", "torch.random.fork_rng(gpus), steps", "steps",
         "test_training.py::test_surroundings_are_left_as_they_were[False]"),
        ("seed of a resumed step", "config.seed, step, team.rank)",
         "config.seed, step - done + 1, team.rank)",
         "test_resume.py::test_a_stopped_run_goes_on_as_if_it_had_not_stopped[joint-plain]"),
        ("a step made again after a stop", "if step > done:", "if step >= done:",
         "test_resume.py::test_a_stopped_run_goes_on_as_if_it_had_not_stopped[joint-plain]"),
        ("rates begin again after a stop", '"rates": rates,\n', "\n",
         "test_resume.py::test_a_stopped_run_goes_on_as_if_it_had_not_stopped[joint-plain]"),
        ("selection begins again after a stop", '"history": history, "best": best}',
         '"history": history}',
         "test_resume.py::test_the_best_weights_may_be_from_before_the_stop"),
        ("gradients of before count", "optimizer.zero_grad()  # of what", "pass  # of what",
         "test_resume.py::test_the_same_model_goes_on_after_an_interruption[settings0]"),
        ("resume with another encoder accepted",
         'if kind["encoder"] in (encoder_hash(', "if True or (encoder_hash(",
         "test_resume.py::test_only_an_encoder_of_the_run_goes_on"),
        ("interrupted fit leaves train mode", "    finally:\n        model.load",
         "    else:\n        model.load",
         "test_resume.py::"
         "test_an_interrupted_fit_keeps_what_it_has[add_step-None-KeyboardInterrupt]"),
    ],
    "experiments/records.py": [
        ("record written in place", 'path.with_name(f".{path.name}.{os.getpid()}")', "path",
         "test_records.py::test_of_two_processes_one_is_killed_and_goes_on_while_two_collect"),
        ("another record replaces a line", "waiting | there)", "there | waiting)",
         "test_records.py::"
         "test_a_record_is_found_in_both_places_and_only_a_deleted_line_is_made_anew"),
    ],
}
MUTANTS = [Mutant(name, file, old, new, test)
           for file, rows in FAULTS.items() for name, old, new, test in rows]


class Failures:
    """What pytest tells: for each failure, whether it is an assertion of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.found = folder, []

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.found.append((False, str(report.longrepr)))

    def pytest_runtest_makereport(self, call) -> None:
        from pytest import fail, skip

        error = call.excinfo
        if error is None or error.errisinstance(skip.Exception):
            return
        place = self.folder.parent  # compiled tests have the path of the copy that all begin with
        paths = [Path(entry.path) for entry in error.traceback]
        ours = [path.relative_to(place).parts[1] for path in paths if path.is_relative_to(place)]
        own = error.errisinstance((AssertionError, fail.Exception)) and ours[-1:] == ["tests"]
        self.found.append((own and call.when == "call", f"{error.typename}: {error.value}"))


def run_tests(folder: Path, nodes: list[str]) -> None:
    """In a process of its own: run tests of a copy, and write what failed into build/found."""
    import pytest

    os.chdir(folder)
    os.environ["PYTHONPATH"] = sys.path[0] = str(folder)
    output = os.open("build/output", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.alarm(SECONDS)
    assert "mtl_helpers" not in sys.modules
    failures = Failures(folder)
    status = pytest.main([*QUIET, *(f"tests/{node}" for node in nodes)], plugins=[failures])
    if status not in (0, 1):
        failures.found.append((False, f"pytest ended with {status!r}"))
    assert Path(sys.modules["mtl_helpers"].__file__).is_relative_to(folder)
    Path("build/found").write_text(json.dumps(failures.found))


def start(folder: Path, nodes: list[str]) -> int:
    """The number of a forked process that runs tests; what they import is imported by then."""
    (folder / "build").mkdir(exist_ok=True)
    child = os.fork()
    if child == 0:
        try:
            run_tests(folder, nodes)
        finally:
            sys.stdout.flush()
            os._exit(0)
    return child


def found_in(folder: Path) -> list[tuple[bool, str]]:
    """What failed in a copy."""
    found = folder / "build" / "found"
    if not found.exists():
        return [(False, "the tests did not end: " + (folder / "build/output").read_text()[-300:])]
    return json.loads(found.read_text())


def mutate(folder: Path, mutant: Mutant) -> None:
    path = folder / mutant.file
    path.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), "utf-8")
    os.utime(path, (0, 0))  # not the time of what is compiled


def tried(mutants: list[Mutant], whole: Path) -> Iterator[tuple[Mutant, float, list]]:
    """Each mutant, in the order in which they end, with its seconds and what failed."""
    running: dict[int, tuple[Mutant, Path, float]] = {}
    waiting = mutants[::-1]
    while waiting or running:
        if waiting and len(running) < AT_ONCE:
            mutant = waiting.pop()
            folder = Path(tempfile.mkdtemp(dir=whole.parent))
            shutil.copytree(whole, folder, dirs_exist_ok=True)
            mutate(folder, mutant)
            running[start(folder, [mutant.test])] = mutant, folder, time.perf_counter()
            continue
        mutant, folder, began = running.pop(os.wait()[0])
        yield mutant, time.perf_counter() - began, found_in(folder)
        shutil.rmtree(folder)


def main(names: list[str]) -> int:
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    assert not unknown, f"no such mutants: {unknown}"
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
                   "TOKENIZERS_PARALLELISM": "false"}
    import hypothesis.strategies  # noqa: F401  # once, for all the processes to come
    import sentence_transformers  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch

    torch.set_num_threads(1)
    escaped = 0
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place).resolve() / "whole"
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE,
                               check=True, text=True).stdout.split("\0")
        for name in filter(None, files):
            (whole / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, whole / name)
        for mutant in chosen:
            count = (whole / mutant.file).read_text(encoding="utf-8").count(mutant.old)
            assert count == 1, f"{mutant.name}: {count} places in {mutant.file}"
        os.waitpid(start(whole, sorted({mutant.test for mutant in chosen})), 0)
        assert found_in(whole) == [], f"without a mutant: {found_in(whole)}"
        shutil.rmtree(whole / "build")
        sys.dont_write_bytecode = True
        for mutant, seconds, found in tried(chosen, whole):
            caught = len(found) == 1 and found[0][0]
            escaped += not caught
            said = "caught" if caught else f"OTHER FAULT {found}" if found else "SURVIVED"
            print(f"{seconds:5.1f} s  {mutant.name}: {said}", flush=True)
    print(f"{len(chosen) - escaped} of {len(chosen)} mutants caught")
    return min(escaped, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
