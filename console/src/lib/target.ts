/** Only paths of this console: a link must not lead elsewhere after signing in. */
export function safeTarget(to: string | null): string {
  return to && /^\/(?![/\\])/.test(to) && !to.startsWith("/login") ? to : "/";
}
