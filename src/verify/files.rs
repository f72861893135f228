//! Checks a sealed range's files against its manifest. For tables that come only from the node's
//! state, which no row can prove, this is all that can be checked.

use super::fault::Fault;
use crate::rows::{CHAIN_TABLES, Table};
use crate::store::{FORMAT, Identity, Manifest, Range, TableManifest, table_path};
use anyhow::{Context, Result};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use std::fs::File;
use std::path::Path;

/// Every fault of the manifest and of the files that it names.
pub(super) fn check(root: &Path, range: &Range, identity: Identity) -> Result<Vec<Fault>> {
    let mut faults = manifest(range, identity);
    let tables: Vec<_> = range.manifest.tables.iter().collect();
    let each = |(name, manifest): (&String, &TableManifest)| file(root, range, name, manifest);
    let of_files = tables.into_par_iter().map(each).collect::<Result<Vec<_>>>()?;
    faults.extend(of_files.into_iter().flatten());
    Ok(faults)
}

fn manifest(range: &Range, identity: Identity) -> Vec<Fault> {
    let Manifest { format, identity: held, first, last, tables, .. } = &range.manifest;
    let place = range.path.join("manifest.json").display().to_string();
    let mut faults = Vec::new();
    let mut same = |check: &str, expected: String, found: String| {
        if expected != found {
            faults.push(Fault::new(&place, check, expected, found));
        }
    };
    same("format", FORMAT.to_string(), format.to_string());
    same("chain id", identity.chain_id.to_string(), held.chain_id.to_string());
    same("genesis hash", identity.genesis_hash.to_string(), held.genesis_hash.to_string());
    same("blocks", format!("{} to {}", range.first, range.last), format!("{first} to {last}"));
    // All blocks, except for gaps in the node's state.
    for table in range.tables().tables() {
        let check = format!("blocks covered by `{}`", table.name);
        same(
            &check,
            format!("{:?}", range.manifest.covered(table.name)),
            format!("{:?}", &tables[table.name].covered[..]),
        );
    }
    faults
}

/// The faults of one table's file.
fn file(root: &Path, range: &Range, name: &str, manifest: &TableManifest) -> Result<Vec<Fault>> {
    let relative = table_path(&range.path, name);
    let path = root.join(&relative);
    let place = relative.display().to_string();
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(vec![Fault::new(place, "file", "an existing file", "none")]);
        }
        file => file.with_context(|| format!("failed to open: `{}`", path.display()))?,
    };
    let mut hasher = blake3::Hasher::new();
    let read = hasher.update_reader(&mut file).map(|hasher| hasher.finalize().to_hex().to_string());
    let found = read.with_context(|| format!("failed to read: `{}`", path.display()))?;
    if found != manifest.blake3 {
        return Ok(vec![Fault::new(place, "BLAKE3", &manifest.blake3, found)]);
    }
    let metadata = match ArrowReaderMetadata::load(&file, Default::default()) {
        Err(error) => {
            return Ok(vec![Fault::new(place, "Parquet footer", "a readable file", error)]);
        }
        Ok(metadata) => metadata,
    };
    let mut faults = Vec::new();
    let rows = metadata.metadata().file_metadata().num_rows();
    if u64::try_from(rows) != Ok(manifest.rows) {
        faults.push(Fault::new(&place, "rows", manifest.rows, rows));
    }
    if let Some(table) = CHAIN_TABLES.iter().find(|table| table.name == name) {
        if !table.has_columns(manifest.layout, metadata.schema()) {
            let expected = table
                .fields(manifest.layout)
                .map(|(column, kind)| format!("{} {kind}", column.name));
            let expected = expected.collect::<Vec<_>>().join(", ");
            let found = columns(metadata.schema());
            faults.push(Fault::new(&place, "columns", expected, found));
        }
        faults.extend(blocks_of(table, range, rows, &place));
    }
    Ok(faults)
}

/// `blocks` has a row for each block of the range.
fn blocks_of(table: &Table, range: &Range, rows: i64, place: &str) -> Option<Fault> {
    let expected = range.blocks();
    (table.name == "blocks" && u64::try_from(rows) != Ok(expected))
        .then(|| Fault::new(place, "rows, one for each block of the range", expected, rows))
}

fn columns(schema: &arrow::datatypes::Schema) -> String {
    let columns =
        schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
    columns.collect::<Vec<_>>().join(", ")
}
