// Says when the page no longer follows the server. The next refresh that works hides it again.
for (const failed of ["htmx:error", "htmx:response:error"]) {
  document.addEventListener(failed, () => {
    const stale = document.getElementById("stale");
    if (stale) stale.hidden = false;
  });
}
