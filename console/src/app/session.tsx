// Signed in or not. Pages are only there for whoever the server knows.
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, type ReactNode } from "react";
import { Navigate, useLocation, useNavigate } from "react-router";
import { ApiError, signedOut } from "@/api/client";
import { useMe } from "@/api/queries";
import { Problem, Skeleton } from "@/ui/bits";

export function Guard({ children }: { children: ReactNode }) {
  const me = useMe();
  const location = useLocation();
  const navigate = useNavigate();
  const queries = useQueryClient();
  const here = location.pathname + location.search;
  useEffect(() => {
    const leave = () => {
      queries.removeQueries({ predicate: (query) => query.queryKey[0] !== "me" });
      void navigate(`/login?to=${encodeURIComponent(here)}`, { replace: true });
    };
    signedOut.addEventListener("signed-out", leave);
    return () => signedOut.removeEventListener("signed-out", leave);
  }, [here, navigate, queries]);
  if (me.error instanceof ApiError && me.error.status === 401) return <Navigate to={`/login?to=${encodeURIComponent(here)}`} replace />;
  if (me.data) return <>{children}</>;
  return <main className="main">{me.error ? <Problem error={me.error} retry={() => void me.refetch()} /> : <Skeleton />}</main>;
}
