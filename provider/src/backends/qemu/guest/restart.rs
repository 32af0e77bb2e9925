//! Starts a guest once more: for a restart of its system, and where its kernel found no clock.

use std::time::Duration;

use super::qmp::{OnReset, Qmp};
use super::{ANSWER, Guest, GuestError, console};
use crate::domain::Environment;
use crate::process::Limits;
use crate::ssh::{Exec, Input, Login, Session, SshError};

/// The pause after a connection that a restart has broken.
const RETRY: Duration = Duration::from_millis(250);
/// How long a restart waits for the machine's end, before it looks whether the system started anew without it (kexec).
const SHUTDOWN: Duration = Duration::from_secs(120);
/// How long the question may take which of its boots this is, before it is asked over a new connection.
const BOOT_ID: Duration = Duration::from_secs(20);
/// How often a guest is started whose kernel finds no clock.
const STARTS: usize = 4;

impl Guest {
    /// Restarts the guest's system and logs in again. The machine is a new QEMU then: one that is merely reset translates
    /// the firmware anew at a third of its speed, and at times hangs in it (QEMU 7.2 without KVM).
    ///
    /// # Errors
    /// Those of [`Guest::connect`]; also when the old system is still there when the time is over.
    pub async fn reboot(
        &mut self,
        session: Session,
        login: &Login,
        limits: &Limits,
    ) -> Result<Session, GuestError> {
        let before = boot_id(&session, limits).await?;
        let ends = self.at_reset(OnReset::End).await;
        let none = Environment::default();
        let exec = Exec { command: "systemctl reboot || reboot", environment: &none, input: Input::Empty };
        match session.exec(&exec, None, limits).await {
            Ok(_) | Err(SshError::Lost(_)) => drop(session),
            Err(error) => return Err(error.into()),
        }
        if ends {
            self.start_anew(limits).await?;
        }
        let brief = Limits { timeout: Some(BOOT_ID), cancel: limits.cancel.clone() };
        let again = async {
            loop {
                let session = self.connect(login, limits).await?;
                match boot_id(&session, &brief).await {
                    Ok(after) if after != before => return Ok(session),
                    // The old system may let us in until its end, and go without a word.
                    Ok(_) | Err(SshError::Lost(_) | SshError::Timeout { .. }) => {
                        tokio::time::sleep(RETRY).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let limit = limits.timeout.unwrap_or(Duration::MAX);
        let done = tokio::time::timeout(limit, again).await;
        done.unwrap_or_else(|_| Err(self.not_up("end of its restart", limit)))
    }

    /// Tells QEMU what to do when the system resets the machine. Returns whether it will: one before 6.0 does not know how.
    async fn at_reset(&self, action: OnReset) -> bool {
        if self.recipe.is_none() {
            return false;
        }
        match Qmp::connect(&self.dir, ANSWER).await {
            Ok(mut qmp) => qmp.at_reset(action).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Waits for the end of QEMU and starts another one.
    async fn start_anew(&mut self, limits: &Limits) -> Result<(), GuestError> {
        let wait = limits.timeout.unwrap_or(SHUTDOWN).min(SHUTDOWN);
        let has_ended = tokio::select! {
            has_ended = self.is_off_within(wait) => has_ended,
            () = limits.cancel.cancelled() => return Err(GuestError::Cancelled),
            () = self.disk_is_full() => return Err(GuestError::DiskFull { dir: self.dir.clone() }),
        };
        match &self.recipe {
            Some(_) if has_ended => self.launch_again().await,
            _ => {
                self.at_reset(OnReset::Reset).await;
                Ok(())
            }
        }
    }

    async fn launch_again(&mut self) -> Result<(), GuestError> {
        if let Some(recipe) = &self.recipe {
            self.console_from = console::size(&self.dir);
            (self.forwards, self.supervised) = recipe.launch(&self.dir).await?;
        }
        Ok(())
    }

    /// Starts a guest anew whose kernel found no clock: that of an emulated machine ticks too seldom on a computer that is
    /// busy, and nothing has been done in it yet.
    ///
    /// # Errors
    /// `error` itself, when it is another one or was seen often enough; when QEMU does not end or start.
    pub(super) async fn start_over(
        &mut self,
        error: GuestError,
        starts: &mut usize,
    ) -> Result<(), GuestError> {
        if !error.is_missing_clock() || self.recipe.is_none() || *starts == STARTS {
            return Err(error);
        }
        *starts += 1;
        tracing::warn!(guest = %self.id, "the guest's kernel found no clock, as happens on a busy computer: starting it anew");
        self.pull_the_plug().await?;
        self.launch_again().await
    }
}

/// What Linux calls this one boot.
async fn boot_id(session: &Session, limits: &Limits) -> Result<String, SshError> {
    let none = Environment::default();
    let command = "cat /proc/sys/kernel/random/boot_id";
    let exec = Exec { command, environment: &none, input: Input::Empty };
    session.exec(&exec, None, limits).await.map(|finished| finished.output)
}
