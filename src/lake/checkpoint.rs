//! Checkpoints: a table's state in one Parquet file, from which a reader continues with the log, as
//! in the [protocol](https://github.com/delta-io/delta/blob/master/PROTOCOL.md#checkpoints).
//!
//! Its rows are the log's lines with one column for each kind, so they are written and read as JSON.

use super::action::Action;
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::Cursor;
use std::sync::Arc;

/// A checkpoint with these actions.
pub(super) fn write(actions: &[Action]) -> Result<Vec<u8>> {
    let lines = Action::lines(actions)?;
    let schema = schema();
    let batches = ReaderBuilder::new(schema.clone()).build(Cursor::new(lines))?;
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    parquet(schema, &batches)
}

/// The actions of a checkpoint that concern what the table holds.
///
/// # Errors
/// If it is not as the protocol has it.
pub(super) fn read(bytes: Vec<u8>) -> Result<Vec<Action>> {
    let mut lines = LineDelimitedWriter::new(Vec::new());
    for batch in ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?.build()? {
        lines.write(&batch?)?;
    }
    lines.finish()?;
    let lines = String::from_utf8(lines.into_inner()).context("it is not UTF-8")?;
    lines.lines().filter_map(|line| Action::parse(line).transpose()).collect()
}

/// A Parquet file of a few rows.
pub(super) fn parquet(schema: SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let level = ZstdLevel::try_new(1).expect("zstd has a level 1");
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(concat!("spyhop ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    Ok(writer.into_inner()?)
}

/// The columns of a checkpoint.
fn schema() -> SchemaRef {
    let long = |name: &str| Field::new(name, DataType::Int64, true);
    let integer = |name: &str| Field::new(name, DataType::Int32, true);
    let boolean = |name: &str| Field::new(name, DataType::Boolean, true);
    let group = |name: &str, fields: Vec<Field>| {
        Field::new(name, DataType::Struct(Fields::from(fields)), true)
    };
    let format = group("format", vec![text("provider"), map("options")]);
    Arc::new(Schema::new(vec![
        group("txn", vec![text("appId"), long("version"), long("lastUpdated")]),
        group(
            "add",
            vec![
                text("path"),
                map("partitionValues"),
                long("size"),
                long("modificationTime"),
                boolean("dataChange"),
                text("stats"),
                map("tags"),
            ],
        ),
        group(
            "remove",
            vec![
                text("path"),
                long("deletionTimestamp"),
                boolean("dataChange"),
                boolean("extendedFileMetadata"),
                map("partitionValues"),
                long("size"),
            ],
        ),
        group(
            "metaData",
            vec![
                text("id"),
                text("name"),
                text("description"),
                format,
                text("schemaString"),
                list("partitionColumns"),
                map("configuration"),
                long("createdTime"),
            ],
        ),
        group(
            "protocol",
            vec![
                integer("minReaderVersion"),
                integer("minWriterVersion"),
                list("readerFeatures"),
                list("writerFeatures"),
            ],
        ),
    ]))
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn list(name: &str) -> Field {
    Field::new(name, DataType::List(Arc::new(text("element"))), true)
}

fn map(name: &str) -> Field {
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), text("value")]);
    let entries = Field::new("key_value", DataType::Struct(entry), false);
    Field::new(name, DataType::Map(Arc::new(entries), false), true)
}
