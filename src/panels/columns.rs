//! The columns of panels: those of the tables that they read, each described in one place only.

use crate::rows::Column;

/// Some columns, and more; `N` is how many there are.
pub(super) const fn extended<const N: usize>(columns: &[Column], more: &[Column]) -> [Column; N] {
    assert!(columns.len() + more.len() == N, "N is the number of all columns");
    let mut all = [columns[0]; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < columns.len() { columns[at] } else { more[at - columns.len()] };
        at += 1;
    }
    all
}

/// The columns of these names, in this order, each as the first list that has it describes it. One
/// that none has does not compile.
pub(super) const fn pick<const N: usize>(lists: &[&[Column]], names: [&str; N]) -> [Column; N] {
    let mut all = [lists[0][0]; N];
    let mut at = 0;
    while at < N {
        all[at] = find(lists, names[at]);
        at += 1;
    }
    all
}

const fn find(lists: &[&[Column]], name: &str) -> Column {
    let mut list = 0;
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            if is_same(lists[list][at].name, name) {
                return lists[list][at];
            }
            at += 1;
        }
        list += 1;
    }
    panic!("no list has a column of that name")
}

/// `==` of texts, which constants cannot use yet.
const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}
