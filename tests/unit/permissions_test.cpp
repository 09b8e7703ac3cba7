// Who may do what, as a table.
#include "api/access/permissions.h"

#include <gtest/gtest.h>

namespace tutti {
namespace {

Identity with(std::map<std::string, Role, std::less<>> roles, std::uint8_t scopes = kAllScopes) {
  Identity who;
  who.kind = Identity::Kind::user;
  who.name = who.owner = "ada";
  who.roles = std::move(roles);
  who.scopes = scopes;
  return who;
}

TEST(Permissions, NobodyAndNodes) {
  const Identity nobody;
  EXPECT_EQ(judge(nobody, Need::nothing), Verdict::allowed);
  for (const auto need : {Need::signed_in, Need::job_read, Need::job_change, Need::submit, Need::operate,
                          Need::administer, Need::node})
    EXPECT_EQ(judge(nobody, need), Verdict::unknown);
  Identity node;
  node.kind = Identity::Kind::node;
  node.roles = {{"*", Role::admin}};  // whatever else it says
  node.scopes = kAllScopes;
  EXPECT_EQ(judge(node, Need::node), Verdict::allowed);
  for (const auto need :
       {Need::signed_in, Need::job_read, Need::job_change, Need::submit, Need::operate, Need::administer})
    EXPECT_EQ(judge(node, need), Verdict::forbidden);
}

TEST(Permissions, RolesOfAProjectReachNoFurther) {
  const auto admin_of_one = with({{"nlp", Role::admin}});
  EXPECT_EQ(judge(admin_of_one, Need::operate), Verdict::forbidden);
  EXPECT_EQ(judge(admin_of_one, Need::administer), Verdict::forbidden);
  EXPECT_EQ(judge(admin_of_one, Need::submit), Verdict::allowed);
  EXPECT_TRUE(may_change(admin_of_one, "nlp", "bob"));
  EXPECT_FALSE(may_change(admin_of_one, "vision", "bob"));
  EXPECT_FALSE(may_read(admin_of_one, "vision", "bob"));
  EXPECT_FALSE(may_submit(admin_of_one, "vision", false));
  EXPECT_FALSE(may_read(with({{"nl", Role::admin}, {"nlp2", Role::admin}}), "nlp", "bob"));
}

TEST(Permissions, AMemberChangesTheirOwnJobs) {
  const auto member = with({{"nlp", Role::member}});
  EXPECT_TRUE(may_read(member, "nlp", "bob"));
  EXPECT_TRUE(may_change(member, "nlp", "ada"));
  EXPECT_FALSE(may_change(member, "nlp", "bob"));
  EXPECT_TRUE(may_submit(member, "nlp", false));
  EXPECT_FALSE(may_submit(member, "nlp", true)) << "urgent";
  EXPECT_TRUE(may_submit(with({{"nlp", Role::operator_}}), "nlp", true));
  EXPECT_FALSE(may_submit(with({{"nlp", Role::viewer}}), "nlp", false));
}

TEST(Permissions, WhoLostTheirRoleStillSeesTheirJobsAndChangesThemNot) {
  const auto former = with({});
  EXPECT_TRUE(may_read(former, "nlp", "ada"));
  EXPECT_FALSE(may_change(former, "nlp", "ada"));
}

TEST(Permissions, ATokenNeverExceedsItsScopes) {
  const auto reader = with({{"*", Role::admin}}, static_cast<std::uint8_t>(Scope::read));
  EXPECT_EQ(judge(reader, Need::signed_in), Verdict::allowed);
  EXPECT_EQ(judge(reader, Need::job_read), Verdict::allowed);
  for (const auto need : {Need::job_change, Need::submit, Need::operate, Need::administer, Need::node})
    EXPECT_EQ(judge(reader, need), Verdict::scope);
  EXPECT_FALSE(may_change(reader, "nlp", "ada"));
  EXPECT_FALSE(may_submit(reader, "nlp", false));
}

TEST(Permissions, NamesReadBack) {
  for (const auto role : {Role::viewer, Role::member, Role::operator_, Role::admin})
    EXPECT_EQ(parse_role(name(role)), role);
  EXPECT_FALSE(parse_role("none")) << "a role that is none is not given";
  for (const auto scope : kScopes) EXPECT_EQ(parse_scope(name(scope)), scope);
}

}  // namespace
}  // namespace tutti
