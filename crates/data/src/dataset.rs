//! From the recipe's sources to checked records and a report.

use crate::check::{self, Found, OnInvalid, OnRepeated, Policy, Problem, Seen};
use crate::error::Error;
use crate::grouping::{self, Slot};
use crate::layout::several::{self, Several};
use crate::layout::{Fault, Layout, Shape, recognise};
use crate::read::{DataFile, Item, Row, Rows, Source, WEIGHT_MAX, files_of};
use crate::record::{Content, Origin, Record};
use crate::report::{Action, DataReport, FileReport, Made};

/// What a method needs from its data.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The shapes of rows that it can use; the first is the one that messages ask for.
    pub shapes: Vec<Shape>,
    /// What is done with rows that have a problem.
    pub policy: Policy,
    /// The run's seed; decides which rows a fractional weight repeats.
    pub seed: u64,
    /// Whether the pairs of a prompt become one group.
    pub group_by_prompt: bool,
    /// Which prompts become part of their completion.
    pub whole: Whole,
}

/// Which prompts of lone completions become part of the completion, to be learned with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whole {
    /// None: a prompt is read, and its completion learned.
    #[default]
    Never,
    /// Those of dialogues in one column, as TRL takes `messages`.
    Dialogues,
    /// All.
    Always,
}

impl Whole {
    fn takes(self, layout: Layout) -> bool {
        match self {
            Self::Never => false,
            Self::Dialogues => layout == Layout::Messages,
            Self::Always => true,
        }
    }
}

impl Options {
    /// Options for one shape, with the default policy.
    pub fn new(shape: Shape) -> Self {
        Self {
            shapes: vec![shape],
            policy: Policy::default(),
            seed: 42,
            group_by_prompt: false,
            whole: Whole::Never,
        }
    }
}

/// Records and what became of the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The records in the order of sources, files and rows; repeated as weights ask.
    pub records: Vec<Record>,
    /// What happened to every row.
    pub report: DataReport,
}

/// Reads, recognises and checks all sources.
///
/// # Errors
///
/// A source or split is absent, a file is broken as a whole or of a format that is not read, no row
/// has a known layout, rows are of a shape that is not wanted, or no row is left. With
/// `on_invalid: error`, the first row with a problem.
pub fn load(sources: &[Source], options: &Options) -> Result<Dataset, Error> {
    let mut loader = Loader::new(options);
    for source in sources {
        let valid = source.weight.is_finite() && 0.0 < source.weight && source.weight <= WEIGHT_MAX;
        if !valid {
            let (path, weight) = (source.path.clone(), source.weight);
            return Err(Error::Weight { path, weight, max: WEIGHT_MAX });
        }
        let rows = loader.report.rows;
        for file in files_of(source)? {
            loader.file(source, &file)?;
        }
        if loader.report.rows == rows {
            return Err(Error::NoRows { path: source.path.clone() });
        }
    }
    loader.finish()
}

/// What is known while files are read.
struct Loader<'a> {
    options: &'a Options,
    report: DataReport,
    /// Kept records; nothing where one was dropped later.
    records: Vec<Option<Slot>>,
    seen: Seen,
}

/// A file that is being read.
struct Open<'a> {
    source: &'a Source,
    layout: Option<Layout>,
    shape: Option<Shape>,
    /// The first row that had no known layout, with its columns.
    strange: Option<(Origin, Vec<String>)>,
    rows: u64,
}

/// How the rows of a file become records.
#[derive(Clone, Copy)]
struct Kind {
    layout: Layout,
    shape: Shape,
    weight: f64,
}

impl<'a> Loader<'a> {
    fn new(options: &'a Options) -> Self {
        Self { options, report: DataReport::default(), records: Vec::new(), seen: Seen::default() }
    }

    fn file(&mut self, source: &Source, file: &DataFile) -> Result<(), Error> {
        let mut rows = Rows::open(&file.path, source.format, &source.split)?;
        let format = rows.format();
        let start = self.records.len();
        let mut open = Open { source, layout: source.layout, shape: None, strange: None, rows: 0 };
        for item in &mut rows {
            self.report.rows += 1;
            open.rows += 1;
            match item? {
                Item::Unreadable { origin, detail } => {
                    self.fault(&origin, Fault::new(Problem::Unreadable, detail))?;
                }
                Item::Row(row) => self.row(&mut open, row)?,
            }
        }
        if open.shape.is_none()
            && let Some((origin, columns)) = &open.strange
        {
            return Err(self.missing_field(source, origin, columns));
        }
        as_one_kind(&mut self.records[start..]);
        if open.layout.is_some_and(|layout| self.options.whole.takes(layout)) {
            for slot in self.records[start..].iter_mut().flatten() {
                slot.record.become_whole();
            }
        }
        self.report.files.push(FileReport {
            path: file.path.display().to_string(),
            format: format.to_string(),
            layout: open.layout.map_or("none", Layout::name).to_owned(),
            rows: open.rows,
            weight: source.weight,
        });
        Ok(())
    }

    fn row(&mut self, open: &mut Open<'_>, mut row: Row) -> Result<(), Error> {
        let origin = row.origin.clone();
        if let Err(fault) = open.source.fields.apply(&mut row.fields) {
            return self.strange(open, &row, fault);
        }
        let several = match several::split(row) {
            Ok(several) => several,
            Err(fault) => return self.fault(&origin, fault),
        };
        let Some(row) = several.rows.first() else { return Ok(()) };
        let Some(layout) = open.layout.or_else(|| recognise(&row.fields)) else {
            let detail =
                missing(row, self.wanted()).map_or_else(String::new, |it| format!("`{it}`"));
            return self.strange(open, row, Fault::new(Problem::MissingField, detail));
        };
        open.layout = Some(layout);
        let shape = *open.shape.get_or_insert_with(|| layout.shape(&row.fields));
        if !self.options.shapes.contains(&shape) {
            return Err(Error::WrongShape {
                origin,
                layout: layout.name(),
                found: shape,
                wanted: self.wanted(),
            });
        }
        let kind = Kind { layout, shape, weight: open.source.weight };
        self.split(&origin, several, kind)
    }

    /// Takes what a row was split into: a group where the method wants groups first, else pairs. A
    /// row that is no list is a record as it is.
    fn split(&mut self, origin: &Origin, several: Several, kind: Kind) -> Result<(), Error> {
        let Several { rows, grades, is_list } = several;
        let Kind { layout, mut shape, weight } = kind;
        // The first shape is what the method is for.
        let takes_groups = self.wanted() == Shape::Groups;
        // Pairs whose order is theirs alone go into the group of their prompt.
        let becomes_group =
            is_list && takes_groups && !(self.options.group_by_prompt && grades.is_none());
        if becomes_group {
            let records = rows.into_iter().map(|row| layout.record(row)).collect::<Result<_, _>>();
            shape = Shape::Groups;
            let group = records.and_then(|all| several::as_group(all, grades.as_ref()));
            let checked = group.and_then(|it| check::content(&it, shape).map(|()| it));
            return match checked {
                Ok(group) => {
                    self.report.add_made(Made::GroupOfList, 1);
                    self.keep(group, shape, weight)
                }
                Err(fault) => self.fault(origin, fault),
            };
        }
        for (index, row) in rows.into_iter().enumerate() {
            let record = layout.record(row);
            match record.and_then(|record| check::content(&record, shape).map(|()| record)) {
                Ok(record) if is_list => {
                    self.report.add_made(Made::PairOfList, 1);
                    self.keep(several::as_pair(record, index, grades.as_ref()), shape, weight)?;
                }
                Ok(record) => self.keep(record, shape, weight)?,
                Err(fault) if is_list => {
                    let detail = format!("item {} of `rejected` {}", index + 1, fault.detail);
                    self.fault(origin, Fault { detail: detail.trim_end().to_owned(), ..fault })?;
                }
                Err(fault) => self.fault(origin, fault)?,
            }
        }
        Ok(())
    }

    /// A row without the columns of any layout, or of those that the recipe names; where no row
    /// has them, the recipe is wrong and not the rows.
    fn strange(&mut self, open: &mut Open<'_>, row: &Row, fault: Fault) -> Result<(), Error> {
        let columns = || (row.origin.clone(), row.fields.keys().cloned().collect());
        let (origin, columns) = open.strange.get_or_insert_with(columns);
        if self.options.policy.on_invalid == OnInvalid::Error {
            return Err(self.missing_field(open.source, origin, columns));
        }
        self.fault(&row.origin, fault)
    }

    fn wanted(&self) -> Shape {
        self.options.shapes.first().copied().unwrap_or(Shape::Pairs)
    }

    fn fault(&mut self, origin: &Origin, fault: Fault) -> Result<(), Error> {
        let Fault { problem, detail } = fault;
        if self.options.policy.on_invalid == OnInvalid::Error {
            return Err(Error::InvalidRow { origin: origin.clone(), problem, detail });
        }
        self.report.add(problem, Action::Dropped, origin, &detail);
        Ok(())
    }

    fn keep(&mut self, record: Record, shape: Shape, weight: f64) -> Result<(), Error> {
        let index = self.records.len();
        let (problem, first, policy) = match self.seen.add(&record, index) {
            Found::New => {
                self.add(record, shape, weight);
                return Ok(());
            }
            Found::Duplicate(first) => {
                (Problem::Duplicate, first, self.options.policy.on_duplicate)
            }
            Found::Contradiction(first) => {
                (Problem::Contradiction, first, self.options.policy.on_contradiction)
            }
        };
        let detail = self.same_as(first);
        match policy {
            OnRepeated::Error => {
                return Err(Error::InvalidRow { origin: record.origin, problem, detail });
            }
            OnRepeated::Keep => {
                // Of pairs that become a group, grouping says which contradict each other.
                if !self.options.group_by_prompt || problem != Problem::Contradiction {
                    self.report.add(problem, Action::Kept, &record.origin, &detail);
                }
                self.add(record, shape, weight);
            }
            OnRepeated::Drop => {
                self.report.add(problem, Action::Dropped, &record.origin, &detail);
                // Nobody can say which side is right, so that neither row is used.
                if problem == Problem::Contradiction
                    && let Some(other) = self.records[first].take()
                {
                    let detail = format!("as {}", record.origin);
                    self.report.add(problem, Action::Dropped, &other.record.origin, &detail);
                }
                // Its place stays taken, so that later rows can be compared with it.
                self.records.push(None);
            }
        }
        Ok(())
    }

    /// Takes a record, with a line in the report for what is suspicious about it.
    fn add(&mut self, record: Record, shape: Shape, weight: f64) {
        for Fault { problem, detail } in check::remarks(&record, shape) {
            self.report.add(problem, Action::Kept, &record.origin, &detail);
        }
        let row = usize::try_from(self.report.rows).unwrap_or(usize::MAX) - 1;
        self.records.push(Some(Slot { record, weight, row }));
    }

    fn same_as(&self, index: usize) -> String {
        match self.records.get(index) {
            Some(Some(slot)) => format!("as {}", slot.record.origin),
            _ => String::new(),
        }
    }

    fn missing_field(&self, source: &Source, origin: &Origin, columns: &[String]) -> Error {
        let wanted = self.wanted();
        let field = wanted
            .required()
            .iter()
            .map(|name| source.fields.column(name))
            .find(|name| !columns.iter().any(|column| column == name))
            .unwrap_or("chosen");
        Error::MissingField {
            origin: origin.clone(),
            field: field.to_owned(),
            available: columns.join(", "),
            expected: wanted.expected().to_owned(),
        }
    }

    fn finish(mut self) -> Result<Dataset, Error> {
        let mut records = Vec::new();
        let mut slots: Vec<Slot> = self.records.into_iter().flatten().collect();
        let mut used = vec![false; slots.last().map_or(0, |slot| slot.row + 1)];
        for slot in &slots {
            used[slot.row] = true;
        }
        if self.options.group_by_prompt {
            slots = grouping::by_prompt(slots, &mut used, &mut self.report);
        }
        self.report.kept = used.into_iter().filter(|is_used| *is_used).count() as u64;
        for Slot { record, weight, .. } in slots {
            let count = repeats(&record, weight, self.options.seed);
            for _ in 1..count {
                records.push(record.clone());
            }
            if 0 < count {
                records.push(record);
            }
        }
        self.report.records = records.len() as u64;
        if records.is_empty() {
            let (rows, summary) = (self.report.rows, self.report.render_problems());
            return Err(Error::AllDropped { rows, summary: summary.trim_end().to_owned() });
        }
        Ok(Dataset { records, report: self.report })
    }
}

/// The first column that a row lacks for a shape.
fn missing(row: &Row, shape: Shape) -> Option<&'static str> {
    shape.required().iter().copied().find(|name| !row.fields.contains_key(*name))
}

/// How often a record is used: the whole part of its weight, and once more for a share of the
/// records that is the weight's fraction.
fn repeats(record: &Record, weight: f64, seed: u64) -> u64 {
    let whole = weight.floor();
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"trueup source weight").update(&seed.to_le_bytes());
    hasher.update(&check::prompt_hash(record)).update(&record.origin.number.to_le_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    let place = (u64::from_le_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64;
    #[expect(clippy::cast_sign_loss, reason = "weights are above 0 and at most WEIGHT_MAX")]
    let whole_count = whole as u64;
    whole_count + u64::from(place < weight - whole)
}

/// A file whose rows are partly text and partly messages (a `system` column in some rows only)
/// becomes messages throughout, so that one file is never tokenized in two ways.
fn as_one_kind(records: &mut [Option<Slot>]) {
    let is_text = |slot: &Slot| matches!(slot.record.prompt, Content::Text(_));
    let mut kept = records.iter().flatten().map(is_text);
    let Some(first) = kept.next() else { return };
    if kept.all(|kind| kind == first) {
        return;
    }
    for slot in records.iter_mut().flatten() {
        slot.record.become_messages();
    }
}
