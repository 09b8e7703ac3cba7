// What handlers use beside the scheduling Backend; each may be absent (null), then its routes answer 501.
// Wired by scheduler/main.cpp and by tests. All live on the control thread and outlive the router.
#pragma once

namespace tutti {

class SecretVault;  // scheduler/secrets
class Shells;       // api/handlers/shells.h

struct Services {
  SecretVault* secrets = nullptr;
  Shells* shells = nullptr;
};

}  // namespace tutti
