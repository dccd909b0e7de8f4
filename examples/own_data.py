"""Two CSV files of different tasks: train the first time, then use the model."""

import csv
from pathlib import Path

from sklearn.linear_model import LogisticRegression

import mtl_helpers as mtl


def read(name: str, task: str) -> mtl.LabelledSentences:
    with open(name, encoding="utf-8-sig", newline="") as file:  # with a BOM or without
        rows = list(csv.DictReader(file))
    labels = {task: [row[task] for row in rows]}  # "" is a missing label
    return mtl.LabelledSentences([row["text"] for row in rows], labels)


if not Path("my-model").exists():
    data = mtl.concatenate(read("reviews.csv", "sentiment"), read("topics.csv", "topic"))
    train, validation, test = mtl.split_corpus(data, seed=0)
    mtl.assert_no_leakage(train, validation, test)
    encoder = mtl.SentenceEncoder.from_pretrained("all-MiniLM-L6-v2")
    before, unseen = encoder.encode(train.sentences), encoder.encode(test.sentences)
    heads = {task: mtl.ClassificationHead(384, names) for task, names in data.names.items()}
    model = mtl.MultiTaskModel(encoder, heads)
    mtl.fit(model, train, validation, mtl.TrainingConfig(epochs=4, schedule="alternating"))
    for task, report in mtl.evaluate(model, test).items():
        known, asked = train.labels[task] >= 0, test.labels[task] >= 0
        probe = LogisticRegression(C=10).fit(before[known], train.labels[task][known])
        right = probe.score(unseen[asked], test.labels[task][asked])
        most = report.confusion.sum(axis=1).max() / report.n  # always the commonest class
        print(f"{task}: {report.accuracy:.0%} right; a probe {right:.0%}, one guess {most:.0%}")
    model.save_pretrained("my-model")

mine = ["The printer ruined the day, as Maria wrote in May.", "The dinner was perfect."]
answers = mtl.MultiTaskModel.from_pretrained("my-model").predict(mine)
print(f"{'sentence':52}", *(f"{task:12}" for task in answers))
for row, sentence in enumerate(mine):
    print(f"{sentence:52}", *(f"{answer.labels[row]:12}" for answer in answers.values()))
