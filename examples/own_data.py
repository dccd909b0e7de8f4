"""Two CSV files of different tasks: train the first time, use the model from then on."""

import csv
from pathlib import Path

from mtl_helpers import (
    ClassificationHead, LabelledSentences, MultiTaskModel, SentenceEncoder, TrainingConfig,
    assert_no_leakage, concatenate, evaluate, fit, linear_probe, split_corpus)


def read(name: str, task: str) -> LabelledSentences:
    with open(name, encoding="utf-8-sig", newline="") as file:  # with or without a BOM
        rows = list(csv.DictReader(file))
    return LabelledSentences([row["text"] for row in rows], {task: [row[task] for row in rows]})


if not Path("my-model").exists():
    data = concatenate(read("reviews.csv", "sentiment"), read("topics.csv", "topic"))
    train, validation, test = split_corpus(data, seed=0)
    assert_no_leakage(train, validation, test)
    encoder = SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
    before, unseen = encoder.encode(train.sentences), encoder.encode(test.sentences)
    heads = {task: ClassificationHead(384, names) for task, names in data.names.items()}
    model = MultiTaskModel(encoder, heads)
    fit(model, train, validation, TrainingConfig(epochs=4, schedule="alternating"))
    for task, report in evaluate(model, test).items():
        known, true = test.labels[task] >= 0, test.labels[task]
        probe = linear_probe(before, train.labels[task], unseen) == true
        print(f"{task}: {report.accuracy:.0%} right, a linear probe {probe[known].mean():.0%}, "
              f"the commonest class {report.confusion.sum(axis=1).max() / report.n:.0%}")
    model.save_pretrained("my-model")

mine = ["The printer ruined the day, as Maria wrote in May.", "The dinner was perfect."]
answers = MultiTaskModel.from_pretrained("my-model").predict(mine)
print(f"{'sentence':52}", *(f"{task:12}" for task in answers))
for row, sentence in enumerate(mine):
    print(f"{sentence:52}", *(f"{answer.labels[row]:12}" for answer in answers.values()))
