import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState, type FormEvent } from "react";
import { useNavigate, useSearchParams } from "react-router";
import { ApiError, api, ok } from "@/api/client";
import { Mark } from "@/app/shell";
import { safeTarget } from "@/lib/target";
import { Button, Problem } from "@/ui/bits";

export default function Login() {
  const [params] = useSearchParams();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [token, setToken] = useState("");
  const [by, setBy] = useState<"password" | "token">("password");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => { document.title = "Sign in · Tutti"; }, []);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await ok(api.POST("/v1/login", { body: by === "token" ? { token: token.trim() } : { user, password } }));
      queries.clear();
      void navigate(safeTarget(params.get("to")), { replace: true });
    } catch (problem) {
      setError(problem instanceof ApiError && problem.status === 401 ? new ApiError(401, { detail: by === "token" ? "There is no such token, or it has expired." : "Name or password is wrong." }) : problem);
      setBusy(false);
    }
  };
  return (
    <main className="login">
      <form onSubmit={(event) => void submit(event)} aria-labelledby="sign-in">
        <div className="brand"><Mark />Tutti</div>
        <h1 id="sign-in">Sign in</h1>
        {error ? <Problem error={error} /> : null}
        {by === "token"
          ? <label className="field" key="token">Token<input type="password" value={token} onChange={(event) => setToken(event.target.value)} autoComplete="off" spellCheck={false} required autoFocus /><span className="help">An API token, or the one in the scheduler's data directory. The page does not keep it.</span></label>
          : <>
            <label className="field">Name<input value={user} onChange={(event) => setUser(event.target.value)} autoComplete="username" autoCapitalize="none" spellCheck={false} required autoFocus /></label>
            <label className="field">Password<input type="password" value={password} onChange={(event) => setPassword(event.target.value)} autoComplete="current-password" required /></label>
          </>}
        <Button kind="primary" type="submit" disabled={busy}>{busy ? "Signing in" : "Sign in"}</Button>
        <Button kind="quiet" onClick={() => { setError(null); setBy(by === "token" ? "password" : "token"); }}>{by === "token" ? "With a name and a password" : "With a token"}</Button>
        <p className="faint">No account yet? Whoever runs the scheduler makes one with <code>tutti user create</code>.</p>
      </form>
    </main>
  );
}
