"""Prints the newest block of each new published file, and when a query had it: newest.py FILE"""

import os
import sys
import time

import duckdb

file, last = sys.argv[1], None
while True:
    try:
        now = os.stat(file).st_ino
    except FileNotFoundError:
        now = last
    if now != last:
        with duckdb.connect(file, read_only=True) as connection:
            connection.execute("SET file_search_path = ?", [os.path.dirname(os.path.abspath(file))])
            block = connection.execute("SELECT max(number) FROM blocks").fetchone()[0]
        print(block, time.time(), flush=True)
        last = now
    time.sleep(0.005)
