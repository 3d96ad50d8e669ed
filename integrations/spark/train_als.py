#!/usr/bin/env python3
"""Trains item vectors on the lake with Spark's implicit ALS, for `driftline models import`.

    spark-submit train_als.py --lake s3a://bucket/prefix --out s3a://bucket/factors

Reads the topic `interactions` as the lake has it, keeps what was liked, leaves the newest part to
Driftline to judge by, and writes a folder of Parquet with the columns `item` and `vector`. The last line
it prints is the command that imports them. README.md tells how it runs on a cluster.
"""

import argparse

from pyspark.ml.feature import IndexToString, StringIndexer
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession
from pyspark.sql import functions as F


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lake", required=True, help="objects.uri of the lake, as Spark reads it")
    parser.add_argument("--topic", default="interactions", help="with the topics' prefix, if any")
    parser.add_argument("--out", required=True, help="folder to be written; replaced if it is there")
    parser.add_argument("--hold-out", type=float, default=0.1,
                        help="the newest share of likes that is left out: training.hold_out")
    parser.add_argument("--rank", type=int, default=64, help="components of a vector")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--alpha", type=float, default=30.0, help="weight of a like above the rest")
    parser.add_argument("--regularization", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--master", help="Spark's master, where spark-submit does not give it")
    return parser.parse_args()


def liked(spark, options):
    """One row a like: an event that was sent twice counts once."""
    records = spark.read.option("mergeSchema", "true").parquet(f"{options.lake}/{options.topic}")
    one = records.select("shard", F.explode("interactions").alias("one"))
    likes = one.where("one.history is not null and one.item != ''").select(
        "shard", "one.source", "one.offset", "one.user", "one.item", "one.event_time")
    return likes.dropDuplicates(["shard", "source", "offset"])


def main():
    options = arguments()
    builder = SparkSession.builder.appName("driftline-als")
    if options.master:
        builder = builder.master(options.master)
        if options.master.startswith("local"):
            # The default is meant for a cluster: on one machine most of the time would go into
            # starting empty tasks.
            builder = builder.config("spark.sql.shuffle.partitions", "8")
    spark = builder.getOrCreate()
    likes = liked(spark, options).withColumn("at", F.col("event_time").cast("double")).cache()
    # An error of 0 asks for the exact quantile.
    split = likes.approxQuantile("at", [1.0 - options.hold_out], 0.0)
    if not split:
        raise SystemExit(f"nothing in {options.lake}/{options.topic} was liked")
    likes = likes.where(F.col("at") < split[0])
    pairs = likes.select(F.col("user").cast("string"), "item").distinct()
    users = StringIndexer(inputCol="user", outputCol="user_number").fit(pairs)
    items = StringIndexer(inputCol="item", outputCol="item_number").fit(pairs)
    pairs = items.transform(users.transform(pairs)).select(
        F.col("user_number").cast("int"), F.col("item_number").cast("int"),
        F.lit(1.0).alias("rating"))
    model = ALS(
        userCol="user_number", itemCol="item_number", ratingCol="rating", implicitPrefs=True,
        rank=options.rank, maxIter=options.iterations, alpha=options.alpha,
        regParam=options.regularization, seed=options.seed,
    ).fit(pairs)
    names = IndexToString(inputCol="id", outputCol="item", labels=items.labels)
    factors = names.transform(model.itemFactors.withColumn("id", F.col("id").cast("double")))
    factors = factors.select("item", F.col("features").alias("vector"))
    factors.write.mode("overwrite").parquet(options.out)
    print(f"{factors.count()} items, {pairs.count()} pairs, likes before {split[0]:.3f}")
    spark.stop()
    # Spark counts what did not happen with weight 1 and a like with 1 + alpha; Driftline counts a
    # like with 1.
    print(f"driftline models import {options.out} --unobserved {1 / options.alpha:.6f} "
          f"--regularization {options.regularization / options.alpha:.6f}")


if __name__ == "__main__":
    main()
