//! `parse` reads back what `print` and `pretty` write.

use super::expressions::Source;
use kymo_query::ast::Expr;
use kymo_query::{ParseOptions, parse, pretty};
use proptest::prelude::*;

fn read(text: &str) -> Expr {
    let mut expr =
        parse(text, &ParseOptions::default()).unwrap_or_else(|errors| panic!("{text}\n{}", errors[0]));
    expr.clear_spans();
    expr
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn printing_keeps_the_tree(choices in prop::collection::vec(any::<u16>(), 0..200)) {
        let text = Source::new(&choices).expression();
        let expr = read(&text);
        let printed = expr.to_string();
        let again = read(&printed);
        prop_assert_eq!(&again, &expr, "{}\n{}", text, printed);
        prop_assert_eq!(again.to_string(), printed);
        prop_assert_eq!(&read(&pretty::pretty(&expr)), &expr);
    }
}
