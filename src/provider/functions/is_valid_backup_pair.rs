//! The function `is_valid_backup_pair`: whether a region may hold the secondary backups of another.

use crate::{
    domain::cloud::check_backup_region,
    provider::functions::{cloud, signature},
};
use async_trait::async_trait;
use tf_provider::{
    Diagnostics, Function,
    schema::{FunctionSchema, Type},
};

/// The function.
#[derive(Debug)]
pub struct IsValidBackupPair;

#[async_trait]
impl Function for IsValidBackupPair {
    type Input<'a> = (String, String);
    type Output<'a> = bool;

    fn schema(&self, _: &mut Diagnostics) -> Option<FunctionSchema> {
        Some(signature(
            "Whether a region may hold the secondary backups of another.",
            "True where both clouds are of one provider and not the same. It is the rule that plan and engine apply, as far as names alone tell.",
            &[
                ("primary", "Cloud of the primary backups."),
                ("secondary", "Cloud that is to hold the copies."),
            ],
            Type::Bool,
        ))
    }

    async fn call<'a>(
        &self,
        diags: &mut Diagnostics,
        (primary, secondary): (String, String),
    ) -> Option<bool> {
        let (primary, secondary) = (cloud(diags, 0, &primary), cloud(diags, 1, &secondary));
        let (primary, secondary) = (primary?, secondary?);
        Some(check_backup_region(&secondary, &primary, &[]).is_ok())
    }
}
