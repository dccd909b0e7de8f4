"""Deliberate faults, and for each the test that must see it: `python tests/mutants.py [NAME ...]`.

A mutant is one replacement in one file. Its test passes without it, and fails by an assertion of
its own with it.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE, SECONDS = 2, 600  # processes, and what one may take
QUIET = ["-q", "-x", "--tb=short", "-p", "no:cacheprovider"]


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    test: str  # its node, below tests/


# In each file, by the file of the tests that must see it: a name, a place in it with «what stands
# there→what takes its place», and the test.
FAULTS = {
    ("mtl_helpers/batching.py", "test_batching.py"): [
        ("length sorting dropped", 'np.«argsort(lengths[chunk], kind="stable")→arange(len(chunk))»',
         "test_grouping_by_length_leaves_little_padding_and_mixes_neighbours"),
        ("temperature upside down", "len(found) ** «(1 / temperature)→temperature»",
         "test_every_schedule_uses_what_it_promises"),
        ("every pass in the same order",
         "«while True:\n        order = random.permutation(rows)→order = random.permutation(rows)\n"
         "    while True:»", "test_a_smaller_task_that_begins_again_is_shuffled_anew"),
        ("the short batch lost", "if whole «< len(order):→== 0:»",
         "test_every_schedule_uses_what_it_promises"),
        ("missing labels counted in a batch",
         "«int(is_known(labels[task][batch.rows]).sum())→len(batch.rows)»",
         "test_tokens_and_labels_of_a_batch_are_those_of_its_rows"),
    ],
    ("mtl_helpers/losses.py", "test_training.py"): [
        ("losses of several processes not shared out", "«(parts * share / self.number)→parts»",
         "test_two_processes_train_the_weights_of_one"),
    ],
    ("mtl_helpers/checkpoint.py", "test_checkpoint.py"): [
        ("rename without a sync", "            «flush(path)→pass»\n        if target.exists():\n",
         "test_all_is_flushed_before_it_gets_its_name"),
        ("checkpoint not verified", "«_read(new, step)→pass»  # what",
         "test_a_disk_that_lies_or_is_full_is_named"),
        ("sums not compared", "if «_sums(files).decode() != (path / SUMS).read_text():→not files:»",
         "test_changed_bytes_and_shorter_or_missing_files_are_noticed[SHA256SUMS]"),
        ("set-aside folder not found",
         "return «old if old.exists() and not target.exists() else →»target",
         "test_a_fault_anywhere_loses_nothing[Path-rename-error0-True]"),
    ],
    ("mtl_helpers/config.py", "test_training.py"): [
        ("select keeps the last instead of the best",
         "if score is not None« and score > self.score→»:",
         "test_the_best_weights_by_validation_are_kept_and_patience_ends_training[genre]"),
        ("an equal score is better", "score «>→>=» self.score:",
         "test_the_best_weights_by_validation_are_kept_and_patience_ends_training[equal]"),
        ("best weights not copied", "parameter.detach«().clone→»()",
         "test_the_best_weights_by_validation_are_kept_and_patience_ends_training[genre]"),
        ("patience off by one", "self.waited «>=→>» self.patience",
         "test_the_best_weights_by_validation_are_kept_and_patience_ends_training[one]"),
        ("an undefined r counts as 0", "scores.append(«-1→0».0 if",
         "test_the_best_weights_by_validation_are_kept_and_patience_ends_training[valence]"),
        ("epoch means by step",
         'counts.update(«row["labels"])\n'
         '            for task, number in row["labels"].→list(row["labels"]))\n'
         '            for task, number in dict.fromkeys(row["labels"], 1).»items():',
         "test_history_tells_what_was_realised[alternating]"),
    ],
    ("mtl_helpers/config.py", "test_resume.py"): [
        ("resume with other labels accepted", "_digest(«values.tolist())→len(values))»",
         "test_other_data_or_another_model_is_refused_by_name[train labels of genre-<lambda>]"),
        ("resume with another seed accepted", 'MAY_CHANGE = «(→("seed", »',
         "test_another_setting_is_refused_by_name[seed]"),
    ],
    ("mtl_helpers/corpus.py", "test_corpus.py"): [
        ("corpus joined by order",
         "«rated = {row[0]: row[3] for row in _table(tar,"
         ' f"{stem}_anonDataRatings.txt")}→names = [row[0] for row in _table(tar,'
         ' f"{stem}_GroundTruth.txt")]\n'
         '            rows = _table(tar, f"{stem}_anonDataRatings.txt")\n'
         "            rated = {name: row[3] for name, row in zip(names, rows)}»",
         "test_every_line_of_a_file_is_a_row_and_its_ratings_have_the_mean_that_stands_there"),
        ("sentiment threshold", "(valence «>→>=» 0.5)",
         "test_tasks_can_be_chosen_and_sentiment_is_valence_cut"),
        ("document ids of genres mixed",
         "«f\"{GENRES[genre]} {name.split('_')[0]}\"→name.split('_')[0]»",
         "test_the_corpus_is_the_recorded_one"),
    ],
    ("mtl_helpers/data.py", "test_data.py"): [
        ("select sorts",
         "np.«arange(len(self))[list(indices)]→sort(np.arange(len(self))[list(indices)])»",
         "test_select_takes_rows_in_the_order_given[indices0]"),
        ("sentences are split instead of documents",
         'for key in (("text", _normalised(sentence«)), ("group", group)):→)),):»',
         "test_a_chain_of_documents_and_equal_texts_stays_together"),
        ("case-folding lost", "shown.«casefold→lower»()",
         "test_the_guard_compares_every_pair_without_case_and_spaces_and_documents"),
        ("leaking document not seen", "if found« or documents→»:",
         "test_the_guard_compares_every_pair_without_case_and_spaces_and_documents"),
    ],
    ("mtl_helpers/encoder.py", "test_encoder.py"): [
        ("padding on the wrong side", "np.arange(lengths.max«())→())[::-1]» < lengths",
         "test_folders_of_the_library_and_ours_agree[bert-mean-True]"),
        ("CLS of left padding", "attention_mask.int().argmax(dim=1)«→ * 0»",
         "test_pooling_ignores_padding_on_either_side[-90.0-cls]"),
        ("truncation silent", 'logger.«warning→debug»(f"{cut}',
         "test_shapes_of_none_one_and_many_and_one_log_line_of_what_is_cut"),
        ("weights of the model take the copy's dtype",
         "if dtype« == next(self.parameters()).dtype→»:",
         "test_encode_leaves_the_model_as_it_is_drops_nothing_out_and_sees_new_weights"),
    ],
    ("mtl_helpers/encoder.py", "test_model_folders.py"): [
        ("a folder's own code passed over", '{"«auto_map", "→»peft_type"} &',
         "test_what_a_folder_lacks_or_would_run_is_an_error[code]"),
    ],
    ("mtl_helpers/evaluation.py", "test_evaluation.py"): [
        ("interval over sentences instead of documents", "if «groups is→not» None:  #",
         "test_an_interval_is_that_of_plain_resampling[accuracy-True]"),
        ("an absent class counts", "np.maximum(seen, 1)«, weights=seen > 0→»)",
         "test_every_score_is_that_of_scikit_learn_over_what_is_labelled"),
        ("a 90 % interval", "[(1 - 0.«95) / 2, (1 + 0.95→90) / 2, (1 + 0.90») / 2]",
         "test_an_interval_is_that_of_plain_resampling[accuracy-True]"),
    ],
    ("experiments/calibration.py", "test_calibration.py"): [
        ("a wrong temperature", "np.log(rows) «/→*» temperature",
         "test_a_temperature_of_one_changes_nothing_and_zeros_are_bounded"),
        ("an edge in the bin above", 'confidence.round(12«))→), side="right")»',
         "test_a_small_example_of_calibration_worked_by_hand"),
    ],
    ("mtl_helpers/model.py", "test_model_folders.py"): [
        ("what can't be loaded replaces what can", "«self.from_pretrained(new, →len(»types)",
         "test_what_could_not_be_loaded_replaces_nothing[an adapter]"),
    ],
    ("mtl_helpers/model.py", "test_freezing.py"): [
        ("dropout awake in a frozen part", "nn.Module.train(module, «False→mode»)",
         "test_train_mode_does_not_wake_the_dropout_of_what_is_frozen[bert]"),
    ],
    ("mtl_helpers/model.py", "test_model.py"): [
        ("label order lost on loading",
         '["heads"].items():\n«→                entry["config"].get("labels", []).sort()\n»',
         "test_saving_and_loading_change_nothing_and_sentence_transformers_opens_the_folder"),
        ("a model's sums not compared", "if «_sha256(path / name) !=→not» digest:",
         "test_each_missing_cut_or_altered_file_is_named_but_a_card"),
    ],
    ("mtl_helpers/freezing.py", "test_freezing.py"): [
        ("layer decay upside down", "layer_decay ** «(layers - depth)→depth»",
         "test_a_backbone_is_frozen_and_rated_layer_by_layer[bert]"),
        ("decay on biases", "if parameter.ndim > «1→0»",
         "test_a_backbone_is_frozen_and_rated_layer_by_layer[bert]"),
        ("stale cache", "if dtype != self.dtype« or self._key(model, dtype) != self.key→»:",
         "test_a_stale_cache_is_refused[a frozen weight-FrozenCache]"),
        ("cached rows in another order",
         "«[self.rows[sentence] for sentence in sentences]→sorted(map(self.rows.get, sentences))»",
         "test_a_cache_gives_embeddings_and_lengths_in_the_order_of_the_sentences"),
    ],
    ("mtl_helpers/losses.py", "test_heads.py"): [
        ("missing labels counted in a loss",
         "count = «(~missing).sum()→torch.tensor(len(missing))»", "test_losses_by_hand"),
        ("a mean by part of a batch instead of by example",
         "whole = count« if batch_counts is None else count.new_tensor(batch_counts[task])→»",
         "test_gradients_add_up_over_tasks_and_over_the_parts_of_a_batch"),
        ("class 0 is missing", "else labels «!= -100→> 0»",
         "test_tensors_and_arrays_agree_on_what_is_missing[values0]"),
        ("uncertainty's half for regression", '{task: «0.5→1.0» if head.likelihood == "gaussian"',
         "test_uncertainty_is_the_gaussian_likelihood_or_nearly_the_scaled_softmax[0.4]"),
    ],
    ("mtl_helpers/heads.py", "test_heads.py"): [
        ("wrong label names", "[self.labels«[→[-»i] for i in ids]",
         "test_decode_gives_names_ids_and_probabilities_or_values[dtype0]"),
    ],
    ("mtl_helpers/synthetic.py", "test_synthetic.py"): [
        ("noise on the wrong side",
         "«(1 - label_noise) * own + label_noise→label_noise * own + (1 - label_noise)» * (1",
         "test_best_accuracy_by_hand_is_what_the_oracle_reaches[given_settings1-0.8-0.8]"),
        ("splits of synthetic sentences overlap", '"test": («4→3»,)',
         "test_sentences_read_like_sentences_and_no_split_shares_one_with_another"),
    ],
    ("mtl_helpers/training.py", "test_training.py"): [
        ("gradients not clipped", "clip_grad_norm_(parameters, «config.clip_norm→1e9»)",
         "test_agrees_with_a_plain_loop[settings1-1e-12]"),
        ("warm-up off by one", "return «(step + 1) / (warmup + 1)→step / warmup»",
         "test_max_steps_ends_in_the_midst_of_an_epoch"),
        ("momentum for a resting head",
         "optimizer.step()\n"
         "                optimizer.zero_grad«()→(set_to_none=False)»",
         "test_a_head_without_labels_in_the_batch_does_not_move"),
        ("validation of the training data", "evaluate(model, «scored→train»,",
         "test_the_best_weights_by_validation_are_kept_and_patience_ends_training[genre]"),
        ("random state not put back", "«torch.random.fork_rng(gpus), →»steps",
         "test_surroundings_are_left_as_they_were[False]"),
    ],
    ("mtl_helpers/training.py", "test_resume.py"): [
        ("seed of a resumed step", "config.seed, step«→ - done + 1», team.rank)",
         "test_a_stopped_run_goes_on_as_if_it_had_not_stopped[joint-plain]"),
        ("selection begins again after a stop", '"history": history«, "best": best→»}',
         "test_the_best_weights_may_be_from_before_the_stop"),
        ("resume with another encoder accepted", 'if «kind["encoder"] in→True or» (encoder_hash(',
         "test_only_an_encoder_of_the_run_goes_on"),
    ],
    ("experiments/records.py", "test_records.py"): [
        ("record written in place", 'path«.with_name(f".{path.name}.{os.getpid()}")→»',
         "test_of_two_processes_one_is_killed_and_goes_on_while_two_collect"),
        ("another record replaces a line", "«waiting | there→there | waiting»)",
         "test_a_record_is_found_in_both_places_and_only_a_deleted_line_is_made_anew"),
    ],
}


def mutants() -> Iterator[Mutant]:
    for (file, tests), rows in FAULTS.items():
        for name, change, test in rows:
            before, old, new, after = re.fullmatch("(.*)«(.*)→(.*)»(.*)", change, re.S).groups()
            changed = before + old + after, before + new + after
            yield Mutant(name, file, *changed, f"{tests}::{test}")


MUTANTS = list(mutants())


def failed(folder: Path, nodes: list[str]) -> str:
    """What pytest prints of tests that fail in a copy: "own" at first if by an assertion there."""
    command = [sys.executable, "-m", "pytest", *QUIET, *(f"tests/{node}" for node in nodes)]
    settings = {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}
    done = subprocess.run(command, cwd=folder, env=os.environ | settings, timeout=SECONDS,
                          capture_output=True, text=True)
    found = done.stdout + done.stderr if done.returncode else ""
    asserts = re.search(r"^FAILED .* - (assert|AssertionError|Failed)\b", found, flags=re.M)
    places = re.findall(r"^(tests|mtl_helpers|experiments)/\S+:\d+: in ", found, flags=re.M)
    return f"own {found}" if asserts and places[-1:] == ["tests"] else found


def tried(whole: Path, mutant: Mutant) -> tuple[Mutant, float, str]:
    """A mutant, its seconds, and what failed in a copy that has its fault."""
    began, folder = time.perf_counter(), Path(tempfile.mkdtemp(dir=whole.parent))
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    path = folder / mutant.file
    path.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), "utf-8")
    os.utime(path, (0, 0))  # not the time of what is compiled
    found = failed(folder, [mutant.test])
    shutil.rmtree(folder)
    return mutant, time.perf_counter() - began, found


def main(names: list[str]) -> int:
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    assert not unknown, f"no such mutants: {unknown}"
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    escaped = 0
    with tempfile.TemporaryDirectory() as place, ThreadPool(AT_ONCE) as pool:
        whole = Path(place).resolve() / "whole"
        files = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
        for name in filter(None, files.split("\0")):
            (whole / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, whole / name)
        found = failed(whole, sorted({mutant.test for mutant in chosen}))
        assert not found, f"without a mutant: {found}"
        for mutant, seconds, found in pool.imap_unordered(partial(tried, whole), chosen):
            caught = found.startswith("own")
            escaped += not caught
            said = "caught" if caught else f"OTHER FAULT {found}" if found else "SURVIVED"
            print(f"{seconds:5.1f} s  {mutant.name}: {said}", flush=True)
    print(f"{len(chosen) - escaped} of {len(chosen)} mutants caught")
    return min(escaped, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
