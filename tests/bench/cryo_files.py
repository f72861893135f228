"""Writes the blocks and transactions of a synthetic volume as cryo 0.3.2 does: its columns and types, 1,000 blocks to a file, one row
group, LZ4. What the volume does not have is constant.

    cryo_files.py VOLUME OUTPUT
"""

import pathlib
import sys

import duckdb


def binary(column):
    return f"unhex(substr({column}, 3))"


TRANSACTIONS = f"""
    block_number::UINTEGER AS block_number, transaction_index::UBIGINT AS transaction_index, {binary("hash")} AS transaction_hash,
    nonce::UBIGINT AS nonce, {binary("from_address")} AS from_address, {binary("to_address")} AS to_address, ''::BLOB AS value_binary,
    value::VARCHAR AS value_string, value::DOUBLE AS value_f64, {binary("input")} AS input, gas::UBIGINT AS gas_limit,
    receipt_gas_used::UBIGINT AS gas_used, receipt_effective_gas_price::UBIGINT AS gas_price, transaction_type::UINTEGER AS transaction_type,
    NULL::UBIGINT AS max_priority_fee_per_gas, NULL::UBIGINT AS max_fee_per_gas, true AS success, 0::UINTEGER AS n_input_bytes,
    0::UINTEGER AS n_input_zero_bytes, 0::UINTEGER AS n_input_nonzero_bytes, 110::UINTEGER AS n_rlp_bytes, {binary("block_hash")} AS block_hash,
    epoch(block_timestamp)::UINTEGER AS timestamp, 1::UBIGINT AS chain_id"""
BLOCKS = f"""
    {binary("hash")} AS block_hash, {binary("parent_hash")} AS parent_hash, {binary("miner")} AS author, {binary("state_root")} AS state_root,
    {binary("transactions_root")} AS transactions_root, {binary("receipts_root")} AS receipts_root, number::UINTEGER AS block_number,
    gas_used::UBIGINT AS gas_used, ''::BLOB AS extra_data, {binary("logs_bloom")} AS logs_bloom, epoch(timestamp)::UINTEGER AS timestamp,
    ''::BLOB AS total_difficulty_binary, '0' AS total_difficulty_string, 0::DOUBLE AS total_difficulty_f64, 600::UINTEGER AS size,
    NULL::UBIGINT AS base_fee_per_gas, 1::UBIGINT AS chain_id"""
FILE_BLOCKS = 1_000

volume, output = map(pathlib.Path, sys.argv[1:])
output.mkdir()
connection = duckdb.connect()
for directory in sorted((volume / "chain").glob("first=*/last=*/g*")):
    first, last = (int(part.split("=")[1]) for part in directory.parts[-3:-1])
    for table, columns in [("transactions", TRANSACTIONS), ("blocks", BLOCKS)]:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE held AS SELECT {columns} FROM '{directory / table}.parquet'")
        for low in range(first, last + 1, FILE_BLOCKS):
            high = low + FILE_BLOCKS - 1
            path = output / f"ethereum__{table}__{low:08}_to_{high:08}.parquet"
            connection.execute(
                f"COPY (FROM held WHERE block_number BETWEEN {low} AND {high}) TO '{path}' (COMPRESSION lz4_raw, ROW_GROUP_SIZE 1000000)"
            )
