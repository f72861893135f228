//! One table's Parquet file, written once from front to back.
//!
//! Row groups have about 120,000 rows, and about 64 MiB in the largest ranges, where the footers of
//! many files add up; they are never larger, whatever the rows are, because a group is kept in
//! memory until it is complete. Columns used in equality lookups have Bloom filters; these, and
//! columns that rows are sorted by, or may be, have statistics. Where rows are sorted by a key,
//! groups and pages are smaller, so that a lookup of one key skips more.

use super::manifest::TableManifest;
use crate::rows::{Kind, LAYOUT, Part, Table, combined};
use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use parquet::arrow::{
    ArrowSchemaConverter, ArrowWriter, PARQUET_FIELD_ID_META_KEY, parquet_to_arrow_schema,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::properties::{EnabledStatistics, ReaderProperties, WriterProperties};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, SchemaDescriptor};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file of a table within a directory.
pub(crate) fn table_path(directory: &Path, table: &str) -> PathBuf {
    directory.join(format!("{table}.parquet"))
}

/// The table whose file has this name.
pub(crate) fn table_of(file: &str) -> Option<&str> {
    file.strip_suffix(".parquet")
}

/// When a row group is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GroupLimit {
    /// At about this many rows.
    Rows(usize),
    /// At about this many encoded bytes.
    Bytes(usize),
}

/// Encoded bytes of a row group, at most.
const GROUP_BYTES_MAX: usize = 64 << 20;

/// Encoded bytes of a combined table's row group in the largest ranges: a lookup of one key decodes
/// a whole group.
const SORTED_GROUP_BYTES: usize = 8 << 20;

/// Rows of a combined table's page: DuckDB does not decompress a page if a condition on another
/// column leaves none of its rows. In tables in block order such small pages would only cost time.
const SORTED_PAGE_ROWS: usize = 4_096;

impl GroupLimit {
    /// The limit for all but the largest files.
    pub(crate) const USUAL: Self = Self::Rows(120_000);

    /// The limit for a table in a range of this many blocks.
    pub(crate) fn of_range(table: &Table, blocks: u64) -> Self {
        match blocks {
            ..=10_000 => Self::USUAL,
            _ if combined::is_combined(table) => Self::Bytes(SORTED_GROUP_BYTES),
            _ => Self::Bytes(GROUP_BYTES_MAX),
        }
    }

    /// How many different values a group's Bloom filter is made for; if a column has fewer, it
    /// shrinks.
    fn distinct_max(self) -> u64 {
        match self {
            Self::Rows(_) => 150_000,
            Self::Bytes(_) => 600_000,
        }
    }
}

/// A table's file being written.
pub(crate) trait Sink: Send {
    fn write(&mut self, part: Part) -> Result<()>;

    /// Writes the rest and makes the file durable. `covered` lists the blocks with complete rows.
    fn finish(
        self: Box<Self>,
        covered: &dyn Fn(&str) -> Vec<[u64; 2]>,
    ) -> Result<(&'static str, TableManifest)>;
}

impl Sink for TableWriter {
    fn write(&mut self, part: Part) -> Result<()> {
        Self::write(self, &part.rows()?)
    }

    fn finish(
        self: Box<Self>,
        covered: &dyn Fn(&str) -> Vec<[u64; 2]>,
    ) -> Result<(&'static str, TableManifest)> {
        Self::finish(*self, covered)
    }
}

/// A Parquet file that grows by record batches and by complete row groups of other files.
pub(crate) struct TableWriter {
    table: &'static Table,
    schema: SchemaRef,
    file: SerializedFileWriter<Hashing>,
    factory: ArrowRowGroupWriterFactory,
    columns: Vec<ArrowColumnWriter>,
    limit: GroupLimit,
    rows_pending: usize,
    rows: u64,
}

impl TableWriter {
    /// Creates the file.
    pub(crate) fn create(path: &Path, table: &'static Table, limit: GroupLimit) -> Result<Self> {
        let file = File::create_new(path)
            .with_context(|| format!("failed to create: `{}`", path.display()))?;
        let schema = table.schema();
        let options = ArrowWriterOptions::new()
            .with_properties(properties(table, limit))
            .with_parquet_schema(file_schema(table)?);
        let writer =
            ArrowWriter::try_new_with_options(Hashing::new(file), schema.clone(), options)?;
        let (file, factory) = writer.into_serialized_writer()?;
        Ok(Self {
            table,
            schema,
            file,
            factory,
            columns: Vec::new(),
            limit,
            rows_pending: 0,
            rows: 0,
        })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.columns.is_empty() {
            self.columns =
                self.factory.create_column_writers(self.file.flushed_row_groups().len())?;
        }
        let mut writers = self.columns.iter_mut();
        for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, array)? {
                writers.next().context("more leaves than columns")?.write(&leaf)?;
            }
        }
        self.rows_pending += batch.num_rows();
        let bytes: usize =
            self.columns.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        let full = match self.limit {
            GroupLimit::Rows(rows) => self.rows_pending >= rows || bytes >= GROUP_BYTES_MAX,
            GroupLimit::Bytes(limit) => bytes >= limit,
        };
        if full { self.close_group() } else { Ok(()) }
    }

    /// Copies row group `index` of another file of the same table, without decoding it.
    pub(super) fn copy_group(&mut self, source: &SourceFile, index: usize) -> Result<()> {
        self.close_group()?;
        let reader = source.reader.get_row_group(index)?;
        let metadata = reader.metadata();
        let mut group = self.file.next_row_group()?;
        for (column, chunk) in metadata.columns().iter().enumerate() {
            group.append_column(
                &source.file,
                ColumnCloseResult {
                    bytes_written: chunk.compressed_size() as u64,
                    rows_written: metadata.num_rows() as u64,
                    metadata: chunk.clone(),
                    bloom_filter: reader.get_column_bloom_filter(column).cloned(),
                    column_index: None,
                    offset_index: None,
                },
            )?;
        }
        group.close()?;
        self.rows += metadata.num_rows() as u64;
        Ok(())
    }

    fn close_group(&mut self) -> Result<()> {
        if self.rows_pending == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for column in std::mem::take(&mut self.columns) {
            column.close()?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.rows += self.rows_pending as u64;
        self.rows_pending = 0;
        Ok(())
    }

    /// Writes the footer and makes the file durable. `covered` lists the blocks with complete rows.
    pub(crate) fn finish(
        mut self,
        covered: impl FnOnce(&str) -> Vec<[u64; 2]>,
    ) -> Result<(&'static str, TableManifest)> {
        self.close_group()?;
        let hashing = self.file.into_inner()?;
        let (bytes, blake3) = hashing.finish()?;
        let covered = covered(self.table.name);
        Ok((
            self.table.name,
            TableManifest { rows: self.rows, bytes, covered, blake3, layout: LAYOUT },
        ))
    }
}

/// The file of a small table, with these rows.
pub(crate) fn small_file(table: &Table, rows: &RecordBatch) -> Result<Vec<u8>> {
    let options = ArrowWriterOptions::new()
        .with_properties(properties(table, GroupLimit::USUAL))
        .with_parquet_schema(file_schema(table)?);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), table.schema(), options)?;
    writer.write(rows)?;
    Ok(writer.into_inner()?)
}

/// A table's file in a range that is merged into a larger one.
pub(super) struct SourceFile {
    /// For copying bytes.
    file: File,
    /// For the metadata.
    pub reader: SerializedFileReader<File>,
    /// Whether it has today's columns: only then can a row group be copied.
    pub is_current: bool,
}

impl SourceFile {
    /// Opens the file; its columns must be those of `table`.
    pub(super) fn open(path: &Path, table: &Table) -> Result<Self> {
        let open =
            || File::open(path).with_context(|| format!("failed to open: `{}`", path.display()));
        let options = || {
            let properties = ReaderProperties::builder().set_read_bloom_filter(true).build();
            ReadOptionsBuilder::new().with_reader_properties(properties)
        };
        let read = |options: ReadOptionsBuilder| {
            SerializedFileReader::new_with_options(open()?, options.build())
                .with_context(|| format!("failed to read: `{}`", path.display()))
        };
        let mut reader = read(options())?;
        let metadata = reader.metadata().file_metadata();
        // As it was written: otherwise a list's type has its items' number in it.
        let schema =
            parquet_to_arrow_schema(metadata.schema_descr(), metadata.key_value_metadata())?;
        let is_current = table.has_columns(LAYOUT, &schema);
        ensure!(
            is_current || table.has_columns(0, &schema),
            "`{}` has other columns than table `{}`",
            path.display(),
            table.name
        );
        if is_current {
            // Its columns may have no numbers yet: those in which its row groups are copied have.
            reader = read(options().with_parquet_schema(Arc::new(file_schema(table)?)))?;
        }
        Ok(Self { file: open()?, reader, is_current })
    }
}

/// The first number of a list's items: they need numbers of their own, and no table has as many
/// columns.
const ITEM_NUMBERS: usize = 1_000;

/// The Parquet schema of a table's files, in which each column has a number (`field_id`): engines
/// that keep schemas of their own, like Iceberg, know a column by it. A column's number is its
/// position, counted from 1, and stays what it is because columns are only added at the end. Files
/// of earlier versions have none.
fn file_schema(table: &Table) -> Result<SchemaDescriptor> {
    let numbered = |field: &Field, number: usize| {
        let mut metadata = field.metadata().clone();
        metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), number.to_string());
        field.clone().with_metadata(metadata)
    };
    let column = |(index, field): (usize, &FieldRef)| {
        let field = numbered(field, index + 1);
        match field.data_type() {
            DataType::List(item) => {
                let item = numbered(item, ITEM_NUMBERS + index + 1);
                field.with_data_type(DataType::List(Arc::new(item)))
            }
            _ => field,
        }
    };
    let fields: Vec<_> = table.schema().fields().iter().enumerate().map(column).collect();
    Ok(ArrowSchemaConverter::new().convert(&Schema::new(fields))?)
}

fn properties(table: &Table, limit: GroupLimit) -> WriterProperties {
    let level = ZstdLevel::try_new(1).expect("zstd has a level 1");
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_created_by(concat!("spyhop ", env!("CARGO_PKG_VERSION")).to_owned())
        // Groups are closed above, not by a row count.
        .set_max_row_group_row_count(None);
    if combined::is_combined(table) {
        builder = builder.set_data_page_row_count_limit(SORTED_PAGE_ROWS);
    }
    for column in table.columns {
        let path = ColumnPath::from(column.name);
        // DuckDB before 2.0 uses a Bloom filter only beside statistics.
        if matches!(column.kind, Kind::Key | Kind::Integer | Kind::Time) {
            builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::Chunk);
        }
        if column.kind == Kind::Key {
            builder = builder
                .set_column_bloom_filter_enabled(path.clone(), true)
                .set_column_bloom_filter_fpp(path.clone(), 0.01)
                .set_column_bloom_filter_max_ndv(path.clone(), limit.distinct_max());
        }
        // A dictionary is useless for values that do not repeat, or only in rows next to each
        // other, where compression finds them.
        const UNIQUE: [&str; 9] = [
            "hash",
            "parent_hash",
            "transaction_hash",
            "input",
            "data",
            "r",
            "s",
            "first_block",
            "last_block",
        ];
        if column.kind == Kind::Wide || UNIQUE.contains(&column.name) {
            builder = builder.set_column_dictionary_enabled(path, false);
        }
    }
    builder.build()
}

/// A file that hashes and counts what is written to it.
struct Hashing {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Hashing {
    fn new(file: File) -> Self {
        Self {
            file: BufWriter::with_capacity(1 << 18, file),
            hasher: blake3::Hasher::new(),
            bytes: 0,
        }
    }

    fn finish(self) -> Result<(u64, String)> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok((self.bytes, self.hasher.finalize().to_hex().to_string()))
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rows::{Rows, transactions};
    use arrow::array::{ArrayRef, StringArray, new_null_array};

    /// One row, in which everything is null.
    fn row(table: &'static Table) -> RecordBatch {
        let null = |field: &FieldRef| new_null_array(field.data_type(), 1);
        let columns = table.schema().fields().iter().map(null).collect();
        RecordBatch::try_new(table.schema(), columns).unwrap()
    }

    /// Without statistics DuckDB 1.4 uses no Bloom filter, and one that is too small lets all pass.
    #[test]
    fn large_row_groups_can_be_skipped_in_lookups() {
        let (count, table) = (400_000_u32, &transactions::TABLE);
        let hash = |number: u32| format!("0x{}", alloy_primitives::keccak256(number.to_be_bytes()));
        let schema = table.schema();
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "hash" => Arc::new(StringArray::from_iter_values((0..count).map(hash))),
                _ => new_null_array(field.data_type(), count as usize),
            }
        });
        let rows = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        let limit = GroupLimit::of_range(table, 100_000);
        let mut writer = TableWriter::create(&path, table, limit).unwrap();
        writer.write(&rows).unwrap();
        writer.finish(|_| Vec::new()).unwrap();
        let source = SourceFile::open(&path, table).unwrap();
        let group = source.reader.get_row_group(0).unwrap();
        let column = table.columns.iter().position(|column| column.name == "hash").unwrap();
        assert!(group.metadata().column(column).statistics().is_some());
        let filter = group.get_column_bloom_filter(column).unwrap();
        assert!((0..1_000).all(|number| filter.check(&*hash(number))));
        let passed = (count..count + 1_000).filter(|&number| filter.check(&*hash(number))).count();
        assert!(passed < 30, "{passed} of 1,000 absent hashes pass");
    }

    fn numbers(path: &Path) -> Vec<(String, Option<i32>)> {
        let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let fields = schema.root_schema().get_fields().iter();
        let mut numbers = Vec::new();
        for field in fields {
            let of = |info: &parquet::schema::types::BasicTypeInfo| {
                (info.name().to_owned(), info.has_id().then(|| info.id()))
            };
            numbers.push(of(field.get_basic_info()));
            if field.is_group() {
                let item = &field.get_fields()[0].get_fields()[0];
                numbers.push(of(item.get_basic_info()));
            }
        }
        numbers
    }

    /// A number must never change: engines know a column by it.
    #[test]
    fn columns_are_numbered_by_position_and_items_of_lists_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new");
        let table = &transactions::TABLE;
        let mut writer = TableWriter::create(&path, table, GroupLimit::Rows(1)).unwrap();
        writer.write(&Rows::new(table).finish()).unwrap();
        writer.finish(|_| Vec::new()).unwrap();
        let mut expected = Vec::new();
        for (number, column) in (1..).zip(table.columns) {
            expected.push((column.name.to_owned(), Some(number)));
            if column.kind == Kind::TextList {
                expected.push(("item".to_owned(), Some(1_000 + number)));
            }
        }
        assert_eq!(numbers(&path), expected);
    }

    #[test]
    fn row_groups_of_files_without_numbers_are_copied() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        let table = &transactions::TABLE;
        let mut writer =
            ArrowWriter::try_new(File::create(&old).unwrap(), table.schema(), None).unwrap();
        writer.write(&row(table)).unwrap();
        writer.close().unwrap();
        assert!(numbers(&old).iter().all(|(_, number)| number.is_none()));
        for source in [&old, &new] {
            let source = SourceFile::open(source, table).unwrap();
            assert!(source.is_current);
            let path = directory.path().join("new.new");
            let mut writer = TableWriter::create(&path, table, GroupLimit::Rows(1)).unwrap();
            writer.copy_group(&source, 0).unwrap();
            writer.finish(|_| Vec::new()).unwrap();
            std::fs::rename(&path, &new).unwrap();
            assert!(numbers(&new).iter().all(|(_, number)| number.is_some()));
            let rows = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(
                File::open(&new).unwrap(),
            );
            let rows = rows.unwrap().build().unwrap().next().unwrap().unwrap();
            assert_eq!(rows.columns(), row(table).columns());
        }
    }
}
