//! Text that ends before a stop string, piece by piece.

/// Passes pieces on, except what may yet become a stop string.
#[derive(Clone, Debug)]
pub struct Cut {
    stops: Vec<String>,
    /// What was not passed on yet.
    held: String,
    is_over: bool,
}

impl Cut {
    /// Nothing was passed on yet; no stop string may be empty.
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.to_vec(), held: String::new(), is_over: false }
    }

    /// Whether a stop string came.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes a piece and passes on what is surely before any stop string; says whether the
    /// listener wants more.
    pub fn push(&mut self, piece: &str, on_text: &mut dyn FnMut(&str) -> bool) -> bool {
        if self.is_over {
            return false;
        }
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            self.held.truncate(at);
            self.is_over = true;
        }
        let keep = if self.is_over { 0 } else { self.possible_start() };
        let sure = self.held.len() - keep;
        let text: String = self.held.drain(..sure).collect();
        text.is_empty() || on_text(&text)
    }

    /// Passes on the rest: no stop string came of it.
    pub fn finish(&mut self, on_text: &mut dyn FnMut(&str) -> bool) {
        let rest = std::mem::take(&mut self.held);
        if !rest.is_empty() {
            on_text(&rest);
        }
    }

    /// Bytes at the end that are the beginning of a stop string.
    fn possible_start(&self) -> usize {
        let of_stop = |stop: &String| {
            let longest = stop.len().saturating_sub(1).min(self.held.len());
            (1..=longest)
                .rev()
                .find(|length| {
                    stop.is_char_boundary(*length) && self.held.ends_with(&stop[..*length])
                })
                .unwrap_or(0)
        };
        self.stops.iter().map(of_stop).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on, piece by piece, and whether a stop string came.
    fn passed(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut cut = Cut::new(&stops);
        let mut passed = Vec::new();
        let mut listen = |text: &str| {
            passed.push(text.to_owned());
            true
        };
        for piece in pieces {
            cut.push(piece, &mut listen);
        }
        cut.finish(&mut listen);
        let is_over = cut.is_over();
        (passed, is_over)
    }

    #[test]
    fn text_ends_before_the_first_stop_string_wherever_pieces_are_cut() {
        let text = "one two\nQ: three";
        for at in 1..text.len() {
            let (passed, is_over) = passed(&["three", "\nQ:"], &[&text[..at], &text[at..]]);
            assert!(is_over);
            assert_eq!(passed.concat(), "one two", "cut at {at}");
        }
    }

    #[test]
    fn what_only_began_like_one_is_passed_on() {
        assert_eq!(
            passed(&["END"], &["a EN", "TER E", "N"]),
            (vec!["a ".to_owned(), "ENTER ".to_owned(), "EN".to_owned()], false)
        );
        assert_eq!(passed(&["\u{e4}\u{f6}"], &["x\u{e4}", "y"]).0.concat(), "x\u{e4}y");
        assert_eq!(passed(&[], &["a", "b"]), (vec!["a".to_owned(), "b".to_owned()], false));
    }
}
