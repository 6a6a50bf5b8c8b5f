//! YAML as a tree in which every value knows where it was written.
//!
//! Scalars stay text until a key says what they should be: `1e-5` is a number where a number is
//! wanted, whichever YAML version would have it a string.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::problem::{Place, Problem, What};

/// Deeper nesting than any recipe has; a guard against files made to exhaust the stack.
const DEPTH_MAX: usize = 32;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing, `~` or `null`: the key counts as unset.
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    /// A text as if it was written at a place.
    pub(super) fn scalar(text: String, place: &Place) -> Self {
        Self { place: place.clone(), value: Value::Scalar(text) }
    }

    /// The value as a number, if it is one.
    pub(super) fn as_number(&self) -> Option<f64> {
        match &self.value {
            Value::Scalar(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        }
    }
}

impl Value {
    /// What it is, for messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Scalar(text) => text.clone(),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a mapping".into(),
        }
    }
}

/// Reads one YAML document; problems of its form are added to `problems`.
///
/// `place` says where a line of the text is. Gives [`Value::Null`] for an empty document.
pub(super) fn parse(
    text: &str,
    place: &dyn Fn(usize) -> Place,
    problems: &mut Vec<Problem>,
) -> Option<Node> {
    let mut reader = Reader { parser: Parser::new_from_str(text), place, problems, depth: 0 };
    match reader.document() {
        Ok(node) => Some(node),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, serde_saphyr::granit_parser::StrInput<'a>>,
    place: &'a dyn Fn(usize) -> Place,
    problems: &'a mut Vec<Problem>,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// The next event that carries content.
    fn next(&mut self) -> Result<(Event<'a>, usize), Problem> {
        loop {
            let Some(next) = self.parser.next_event() else {
                return Ok((Event::StreamEnd, 1));
            };
            match next.map_err(|err| self.syntax(&err))? {
                (Event::StreamStart | Event::DocumentStart(..) | Event::Comment(..), _) => {}
                (event, span) => return Ok((event, line_of(&span))),
            }
        }
    }

    fn syntax(&self, err: &ScanError) -> Problem {
        let line = err.marker().line();
        Problem::new((self.place)(line), What::Syntax { detail: err.info() })
    }

    fn problem(&self, line: usize, what: What) -> Problem {
        Problem::new((self.place)(line), what)
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let node = match self.next()? {
            (Event::StreamEnd | Event::DocumentEnd, line) => {
                return Ok(Node { place: (self.place)(line), value: Value::Null });
            }
            (event, line) => self.node(event, line)?,
        };
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(node),
                (Event::DocumentEnd, _) => {}
                (_, line) => return Err(self.problem(line, What::ManyDocuments)),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, line: usize) -> Result<Node, Problem> {
        let place = (self.place)(line);
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..)
                if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") =>
            {
                Value::Null
            }
            Event::Scalar(text, ..) => Value::Scalar(text.into_owned()),
            Event::SequenceStart(..) => self.nested(line, Self::list)?,
            Event::MappingStart(..) => self.nested(line, Self::map)?,
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                return Err(self.problem(line, What::Alias));
            }
            _ => {
                return Err(
                    self.problem(line, What::Syntax { detail: "a value is missing".into() })
                );
            }
        };
        Ok(Node { place, value })
    }

    fn nested(
        &mut self,
        line: usize,
        read: impl FnOnce(&mut Self) -> Result<Value, Problem>,
    ) -> Result<Value, Problem> {
        if self.depth == DEPTH_MAX {
            let detail = format!("more than {DEPTH_MAX} levels");
            return Err(self.problem(line, What::Syntax { detail }));
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn list(&mut self) -> Result<Value, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, line) => items.push(self.node(event, line)?),
            }
        }
    }

    fn map(&mut self) -> Result<Value, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Value::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => {
                    let detail = "a key must be a plain word".into();
                    return Err(self.problem(line, What::Syntax { detail }));
                }
            };
            let (event, value_line) = self.next()?;
            let node = self.node(event, value_line)?;
            let place = (self.place)(line);
            if entries.iter().any(|entry| entry.key == key) {
                self.problems.push(Problem::new(place, What::Duplicate { key }));
                continue;
            }
            entries.push(Entry { key, place, node });
        }
    }
}

fn line_of(span: &Span) -> usize {
    span.start.line()
}
