import csv
import os


class CSVLogger:
    def __init__(self, folder):
        os.makedirs(folder)
        self.file = open(os.path.join(folder, "metrics.csv"), "w", newline="")
        self.writer = csv.writer(self.file)
        self.writer.writerow(["step", "name", "value"])

    def log_metrics(self, metrics, step):
        for name, value in metrics.items():
            self.writer.writerow([step, name, repr(value)])

    def close(self):
        self.file.close()
