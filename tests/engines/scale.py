#!/usr/bin/env python3
"""Asks a large lake in Spark, with one executor and with two of one core each: the files of a table, and the parts of a file, are shared.

    scale.py LAKE [--rounds 3]

Needs $ENGINES_DELTA and $JAVA_HOME, as tests/run.sh sets them. A large lake without much space: the files of a range under many names
are as much work to read as different ones, and a Delta log may name them all.
"""

import argparse
import os
import pathlib
import sys
import time

QUESTION = """SELECT substr(address, 3, 2) AS prefix, count(*) AS flows, sum(amount_in) AS amount_in, sum(amount_out) AS amount_out,
    max(last_block) AS last_block FROM address_flows GROUP BY 1 ORDER BY 1"""


def ask(lake, executors, rounds):
    """Seconds of each round, and the answer."""
    from pyspark.sql import SparkSession

    jars = ",".join(str(jar) for jar in pathlib.Path(os.environ["ENGINES_DELTA"]).glob("*.jar"))
    settings = {
        "spark.jars": jars,
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.executor.memory": "2g",
        "spark.executor.cores": "1",
    }
    builder = SparkSession.builder.master(f"local-cluster[{executors},1,2048]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    session.sql(f"CREATE TEMPORARY VIEW address_flows USING delta OPTIONS (path '{lake}/address_flows')")
    seconds = []
    for _ in range(rounds):
        started = time.monotonic()
        answer = [tuple(row) for row in session.sql(QUESTION).collect()]
        seconds.append(time.monotonic() - started)
    session.stop()
    return seconds, answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lake", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results = {executors: ask(options.lake.resolve(), executors, options.rounds) for executors in [1, 2]}
    for executors, (seconds, answer) in results.items():
        rows = sum(row[1] for row in answer)
        print(f"{executors} executors: {rows:,} rows in " + ", ".join(f"{one:.1f}" for one in seconds) + " s")
    if results[1][1] != results[2][1]:
        sys.exit("error: the answers differ")
    if min(results[2][0]) >= min(results[1][0]):
        sys.exit("error: two are no faster than one")


if __name__ == "__main__":
    main()
