"""The six engines, all of one shape: `Engine(lake, tables, work)` opens the tables as docs/lake.md says, `ask(sql)` gives rows."""

import json
import os
import pathlib
import subprocess
import time
import urllib.request

import docs


class DuckDB:
    name = "duckdb"

    def __init__(self, lake, tables, work):
        import duckdb
        import duckdb_extension_delta

        # The package has the file that INSTALL would fetch.
        home = pathlib.Path(duckdb_extension_delta.__file__).parent
        self.connection = duckdb.connect()
        self.connection.execute(f"LOAD '{next(home.rglob('delta.duckdb_extension'))}'")
        for statement in docs.opening(self.name, lake, tables):
            self.connection.execute(statement)

    def ask(self, sql):
        return self.connection.execute(sql).fetchall()


class DeltaRs:
    name = "delta-rs"

    def __init__(self, lake, tables, work):
        opens, self.asks = docs.script(self.name, lake)
        self.names = {"tables": tables}
        exec(opens, self.names)

    def ask(self, sql):
        import pyarrow

        self.names["question"] = sql
        exec(self.asks, self.names)
        return [tuple(row.values()) for row in pyarrow.table(self.names["answer"]).to_pylist()]


class Polars(DeltaRs):
    name = "polars"

    def ask(self, sql):
        self.names["question"] = sql
        exec(self.asks, self.names)
        return self.names["answer"].rows()


class ClickHouse:
    name = "clickhouse"

    def __init__(self, lake, tables, work):
        import chdb

        # Only files below the working directory may be read.
        os.chdir(lake)
        self.connection = chdb.connect(":memory:")
        for statement in docs.opening(self.name, lake, tables):
            self.connection.query(statement)

    def ask(self, sql):
        # As text: a number in JSON or in a data frame may be rounded.
        answer = self.connection.query(sql, "JSONCompactStringsEachRow")
        return [tuple(None if value == "ᴺᵁᴸᴸ" else value for value in json.loads(line)) for line in str(answer).splitlines()]


class Spark:
    name = "spark"

    def __init__(self, lake, tables, work):
        from pyspark.sql import SparkSession

        jars = ",".join(sorted(str(jar) for jar in pathlib.Path(os.environ["ENGINES_DELTA"]).glob("*.jar")))
        settings = {
            "spark.jars": jars,
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            "spark.databricks.delta.snapshotPartitions": "1",
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.warehouse.dir": f"{work}/warehouse",
            "spark.local.dir": f"{work}/spark",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.memory": "2g",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }
        builder = SparkSession.builder.master("local[2]")
        for name, value in settings.items():
            builder = builder.config(name, value)
        started = time.monotonic()
        self.session = builder.getOrCreate()
        self.session.sparkContext.setLogLevel("OFF")
        self.start_s = time.monotonic() - started
        for statement in docs.opening(self.name, lake, tables):
            self.session.sql(statement)

    def ask(self, sql):
        return [tuple(row) for row in self.session.sql(sql).collect()]

    def close(self):
        self.session.stop()


class Trino:
    name = "trino"
    PORT = 18_480

    def __init__(self, lake, tables, work):
        started = time.monotonic()
        self.work = pathlib.Path(work)
        self.server = self.start(lake)
        try:
            self.start_s = self.wait() - started
            self.ask(f"CREATE SCHEMA lake.chain WITH (location = 'local://{self.work}/schema')")
            for statement in docs.opening(self.name, lake, tables):
                self.ask(statement)
        except BaseException:
            self.close()
            raise

    def start(self, lake):
        """The server as a process: `bin/launcher` is no more than this."""
        home, java = os.environ["ENGINES_TRINO"], os.environ["ENGINES_JAVA_TRINO"]
        etc = self.work / "etc"
        (etc / "catalog").mkdir(parents=True)
        catalogue = docs.of("ini", self.name)[0].replace("/srv/trino", f"{self.work}/metastore")
        (etc / "catalog" / "lake.properties").write_text(catalogue + "\n")
        (etc / "config.properties").write_text(
            f"coordinator=true\nnode-scheduler.include-coordinator=true\ndiscovery.uri=http://127.0.0.1:{self.PORT}\n"
            f"http-server.http.port={self.PORT}\nnode.internal-address=127.0.0.1\nweb-ui.enabled=false\nquery.max-memory-per-node=1GB\n"
            f"catalog.config-dir={etc}/catalog\nplugin.dir={home}/plugin\n"
        )
        flags = ["-Xmx3g", "-Djdk.attach.allowAttachSelf=true", "--sun-misc-unsafe-memory-access=allow"]
        node = ["-Dnode.environment=test", "-Dnode.id=one", f"-Dnode.data-dir={self.work}/data", f"-Dconfig={etc}/config.properties"]
        argv = [f"{java}/bin/java", *flags, *node, "-cp", f"{home}/lib/*", "io.trino.server.TrinoServer"]
        log = open(self.work / "server.log", "wb")
        return subprocess.Popen(argv, cwd=self.work, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait(self):
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if b"SERVER STARTED" in (self.work / "server.log").read_bytes():
                return time.monotonic()
            if self.server.poll() is not None:
                break
            time.sleep(0.1)
        raise TimeoutError((self.work / "server.log").read_text()[-3000:])

    def ask(self, sql):
        """The server says that it has started a moment before it counts itself as a node."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.ask_once(sql)
            except ValueError as error:
                if "No nodes available" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def ask_once(self, sql):
        headers = {"X-Trino-User": "test", "X-Trino-Catalog": "lake", "X-Trino-Schema": "chain"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.PORT}/v1/statement", data=sql.encode(), headers=headers)
        rows = []
        while True:
            with urllib.request.urlopen(request, timeout=300) as reply:
                reply = json.load(reply, parse_float=str)
            if "error" in reply:
                raise ValueError(reply["error"]["message"])
            rows += map(tuple, reply.get("data", []))
            if "nextUri" not in reply:
                return rows
            request = urllib.request.Request(reply["nextUri"], headers=headers)

    def close(self):
        self.server.terminate()
        self.server.wait()


ENGINES = {engine.name: engine for engine in [DuckDB, DeltaRs, Polars, ClickHouse, Spark, Trino]}
