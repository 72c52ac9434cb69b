// Server-sent events over fetch, so that the XSRF token can come along and a 503 of the proxy, which ends an
// EventSource for good, is only a reason to try again.

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8000;
const SILENCE_MS = 35000; // two keep-alive comments and some

/**
 * Call `onEvent(type, data, id)` for every event until it returns true ("that was the last").
 * `onLost(lost)` tells whether the connection is down; `onRefused(status, error)` that asking again is no use.
 */
export async function follow(url, { xsrf, onEvent, onLost, onRefused }) {
  let last = "";
  let pause = FIRST_PAUSE_MS;
  for (;;) {
    const abort = new AbortController();
    let watch;
    const heard = () => {
      clearTimeout(watch);
      watch = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    try {
      heard();
      const answer = await fetch(url, {
        headers: { Accept: "text/event-stream", "X-XSRFToken": xsrf, ...(last && { "Last-Event-ID": last }) },
        cache: "no-store",
        signal: abort.signal,
      });
      if (answer.status === 204) return;
      if (answer.status >= 400 && answer.status < 500) {
        onRefused(answer.status, await answer.json().catch(() => ({})));
        return;
      }
      if (answer.ok) {
        for await (const event of events(answer.body, heard)) {
          onLost(false);
          pause = FIRST_PAUSE_MS;
          last = event.id || last;
          if (onEvent(event.type, JSON.parse(event.data), event.id)) {
            abort.abort();
            return;
          }
        }
      }
    } catch (error) {
      if (error instanceof SyntaxError) throw error;
    } finally {
      clearTimeout(watch);
    }
    onLost(true);
    await new Promise((resume) => setTimeout(resume, pause * (0.75 + Math.random() / 2)));
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }
}

async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { type: "message", id: "", data: "" };
      for (const line of block.split("\n")) {
        const at = line.indexOf(": ");
        if (at < 1) continue; // a comment
        const field = line.slice(0, at);
        if (field === "event") event.type = line.slice(at + 2);
        else if (field in event) event[field] = line.slice(at + 2);
      }
      if (event.data) yield event;
    }
  }
}
